use super::*;

fn query(inner: &str) -> Element {
    format!("<query xmlns='http://jabber.org/protocol/disco#info'>{inner}</query>").parse().unwrap()
}

fn disco(inner: &str) -> Disco {
    Disco::parse(&query(inner)).unwrap()
}

const EXODUS: &str = "<identity category='client' name='Exodus 0.9.1' type='pc'/>\
    <feature var='http://jabber.org/protocol/caps'/><feature var='http://jabber.org/protocol/disco#items'/>\
    <feature var='http://jabber.org/protocol/disco#info'/><feature var='http://jabber.org/protocol/muc'/>";

const PSI: &str = "<identity xml:lang='en' category='client' name='Psi 0.11' type='pc'/>\
    <identity xml:lang='el' category='client' name='Ψ 0.11' type='pc'/>\
    <feature var='http://jabber.org/protocol/caps'/><feature var='http://jabber.org/protocol/disco#info'/>\
    <feature var='http://jabber.org/protocol/disco#items'/><feature var='http://jabber.org/protocol/muc'/>\
    <x xmlns='jabber:x:data' type='result'>\
    <field var='FORM_TYPE' type='hidden'><value>urn:xmpp:dataforms:softwareinfo</value></field>\
    <field var='ip_version' type='text-multi'><value>ipv4</value><value>ipv6</value></field>\
    <field var='os'><value>Mac</value></field><field var='os_version'><value>10.5.1</value></field>\
    <field var='software'><value>Psi</value></field><field var='software_version'><value>0.11</value></field></x>";

#[test]
fn xep0115_5_2_simple_example() {
    let disco = disco(EXODUS);
    assert_eq!(
        disco.verification_string(),
        "client/pc//Exodus 0.9.1<http://jabber.org/protocol/caps<http://jabber.org/protocol/disco#info<\
         http://jabber.org/protocol/disco#items<http://jabber.org/protocol/muc<"
    );
    assert_eq!(Algorithm::Sha1.ver(&disco.verification_string()), "QgayPKawpkPSDYmwT/WM94uAlu0=");
    assert!(disco.is_canonical());
}

#[test]
fn xep0115_5_3_complex_example() {
    let disco = disco(PSI);
    assert_eq!(
        disco.verification_string(),
        "client/pc/el/Ψ 0.11<client/pc/en/Psi 0.11<http://jabber.org/protocol/caps<\
         http://jabber.org/protocol/disco#info<http://jabber.org/protocol/disco#items<\
         http://jabber.org/protocol/muc<urn:xmpp:dataforms:softwareinfo<ip_version<ipv4<ipv6<os<Mac<os_version<\
         10.5.1<software<Psi<software_version<0.11<"
    );
    assert_eq!(Algorithm::Sha1.ver(&disco.verification_string()), "q07IKJEyjvHSyhy//CH0CxmKi8w=");
}

#[test]
fn xep0115_5_4_ill_formed_answers_are_none() {
    let form = |kind: &str| {
        format!("<x xmlns='jabber:x:data'><field var='FORM_TYPE' type='hidden'>{kind}</field><field var='a'/></x>")
    };
    let one = form("<value>urn:one</value>");
    for (rule, inner) in [
        ("3.3", "<identity category='a' type='b' name='c'/>".repeat(2)),
        ("3.4", "<feature var='a'/><feature var='b'/><feature var='a'/>".to_owned()),
        ("3.5", format!("{one}{one}")),
        ("3.5", form("<value>urn:one</value><value>urn:two</value>")),
    ] {
        assert_eq!(Disco::parse(&query(&inner)), None, "{rule}: {inner}");
    }
}

#[test]
fn xep0115_5_4_3_6_forms_without_a_hidden_type_are_not_hashed() {
    for form in [
        "<x xmlns='jabber:x:data'><field var='a'><value>1</value></field></x>",
        "<x xmlns='jabber:x:data'><field var='FORM_TYPE' type='text-single'><value>urn:one</value></field></x>",
    ] {
        assert_eq!(disco(&format!("{EXODUS}{form}")), disco(EXODUS), "{form}");
    }
}

#[test]
fn what_is_too_large_is_not_remembered() {
    let features = |many: usize| -> String {
        (0..many).map(|at| format!("<feature var='{at:04}{}'/>", "a".repeat(1020))).collect()
    };
    assert!(Disco::parse(&query(&features(LARGEST / 1024))).is_some());
    assert!(Disco::parse(&query(&features(LARGEST / 1024 + 1))).is_none());
}

/// Pairs with one verification string: what the honest client says may be taken for everyone, the other not.
#[test]
fn answers_that_hash_alike_are_not_both_canonical() {
    let form = |kind: &str, inner: &str| {
        format!(
            "<x xmlns='jabber:x:data'><field var='FORM_TYPE' type='hidden'><value>{kind}</value></field>{inner}</x>"
        )
    };
    let client = "<identity category='client' type='pc' name='x'/>";
    let pairs = [
        // The last features as a form.
        (
            format!("{client}<feature var='urn:a'/><feature var='urn:b'/><feature var='urn:c'/>"),
            format!("{client}<feature var='urn:a'/>{}", form("urn:b", "<field var='urn:c'/>")),
        ),
        (
            format!("{client}<feature var='urn:a'/><feature var='urn:b'/>"),
            format!("{client}<feature var='urn:a'/>{}", form("urn:b", "")),
        ),
        // All of them.
        (format!("{client}<feature var='urn:a'/>"), format!("{client}{}", form("urn:a", ""))),
        // An identity as a feature, and a feature as an identity.
        (format!("{client}<feature var='urn:a'/>"), "<feature var='client/pc//x'/><feature var='urn:a'/>".to_owned()),
        (
            format!("{client}<feature var='http://a/b/c'/><feature var='urn:a'/>"),
            format!("{client}<identity category='http:' type='' xml:lang='a' name='b/c'/><feature var='urn:a'/>"),
        ),
        // The mark itself inside of a value.
        (
            format!("{client}<feature var='urn:a'/><feature var='urn:b'/>"),
            format!("{client}<feature var='urn:a&lt;urn:b'/>"),
        ),
        (
            format!("{client}<feature var='urn:a'/>"),
            "<identity category='client' type='pc' name='x&lt;urn:a'/>".to_owned(),
        ),
        // Slashes inside of an identity's parts.
        (
            "<identity category='client' type='pc' xml:lang='en' name='a/b'/><feature var='urn:a'/>".to_owned(),
            "<identity category='client/pc' type='en' xml:lang='a' name='b'/><feature var='urn:a'/>".to_owned(),
        ),
    ];
    for (honest, forged) in pairs {
        let (honest, forged) = (disco(&honest), disco(&forged));
        assert_eq!(honest.verification_string(), forged.verification_string());
        assert!(honest.is_canonical(), "{honest:?}");
        assert!(!forged.is_canonical(), "{forged:?}");
    }
}

/// Every way to divide a few tokens into identities, features and the type of a form: of those with one string, at most
/// one set of features is canonical.
#[test]
fn of_all_readings_of_a_string_one_at_most_is_canonical() {
    let tokens = ["client/pc//x", "client/web//y", "http://a/b/c", "m", "urn:a", "urn:b", "a"];
    let mut seen: std::collections::HashMap<String, Vec<String>> = std::collections::HashMap::new();
    let (mut canonical, mut strings) = (0, std::collections::HashSet::new());
    for shape in 0..4_usize.pow(u32::try_from(tokens.len()).unwrap()) {
        let (mut identities, mut features, mut fields) = (String::new(), String::new(), Vec::new());
        let mut rest = shape;
        for token in tokens {
            match rest % 4 {
                0 => {}
                1 => {
                    let mut parts = token.splitn(4, '/');
                    let mut part = || parts.next().unwrap_or_default();
                    identities.push_str(&format!(
                        "<identity category='{}' type='{}' xml:lang='{}' name='{}'/>",
                        part(),
                        part(),
                        part(),
                        part()
                    ));
                }
                2 => features.push_str(&format!("<feature var='{token}'/>")),
                _ => fields.push(token),
            }
            rest /= 4;
        }
        let mut form = String::new();
        if let Some((kind, fields)) = fields.split_first() {
            let fields: String = fields.iter().map(|name| format!("<field var='{name}'/>")).collect();
            form = format!(
                "<x xmlns='jabber:x:data'><field var='FORM_TYPE' type='hidden'><value>{kind}</value></field>{fields}</x>"
            );
        }
        let disco = disco(&format!("{identities}{features}{form}"));
        strings.insert(disco.verification_string());
        if disco.is_canonical() {
            canonical += 1;
            let before = seen.insert(disco.verification_string(), disco.features.clone());
            assert!(before.is_none_or(|before| before == disco.features), "{disco:?}");
        }
    }
    assert!(canonical > 100 && strings.len() > canonical, "{canonical} of {}", strings.len());
}
