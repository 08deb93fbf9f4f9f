use super::*;

#[test]
fn rfc7622_3_5_valid_addresses() {
    for (text, normal) in [
        ("juliet@example.com", "juliet@example.com"),
        ("juliet@example.com/foo", "juliet@example.com/foo"),
        ("juliet@example.com/foo bar", "juliet@example.com/foo bar"),
        ("juliet@example.com/foo@bar", "juliet@example.com/foo@bar"),
        ("foo\\20bar@example.com", "foo\\20bar@example.com"),
        ("fussball@example.com", "fussball@example.com"),
        ("π@example.com", "π@example.com"),
        ("Σ@example.com/foo", "σ@example.com/foo"),
        ("king@example.com/♚", "king@example.com/♚"),
        ("example.com", "example.com"),
        ("example.com/foobar", "example.com/foobar"),
        ("a.example.com/b@example.net", "a.example.com/b@example.net"),
        ("Juliet@Example.COM/Balcony", "juliet@example.com/Balcony"),
        ("juliet@example.com./b", "juliet@example.com/b"),
        ("juliet@xn--bcher-kva.example", "juliet@bücher.example"),
        ("juliet@BÜCHER.example", "juliet@bücher.example"),
        ("a@127.0.0.1", "a@127.0.0.1"),
        ("a@[::1]/b", "a@[::1]/b"),
    ] {
        assert_eq!(parse(text).map(|jid| jid.to_string()), Ok(normal.to_owned()), "{text}");
    }
}

#[test]
fn rfc7622_3_5_invalid_addresses() {
    for (text, error) in [
        ("\"juliet\"@example.com", JidError::Local),
        ("foo bar@example.com", JidError::Local),
        ("@example.com/", JidError::Local),
        ("@example.com", JidError::Local),
        ("henryⅣ@example.com", JidError::Local),
        ("♚@example.com", JidError::Local),
        ("a<b@example.com", JidError::Local),
        ("juliet@", JidError::Domain),
        ("", JidError::Domain),
        ("/foobar", JidError::Domain),
        ("juliet@exa mple.com", JidError::Domain),
        ("juliet@a..b", JidError::Domain),
        ("juliet@-a.b", JidError::Domain),
        ("a@b@c", JidError::Domain),
        ("juliet@[::1", JidError::Domain),
        ("juliet@exa_mple.com", JidError::Domain),
        ("juliet@example.com/", JidError::Resource),
        ("juliet@example.com/a\u{200b}b", JidError::Resource),
        ("juliet@example.com/\u{7f}", JidError::Resource),
    ] {
        assert_eq!(parse(text), Err(error), "{text:?}");
    }
    let long = "x".repeat(MAX_PART_BYTES + 1);
    assert_eq!(parse(&format!("{long}@example.com")), Err(JidError::Local));
    assert_eq!(parse(&format!("a@example.com/{long}")), Err(JidError::Resource));
    assert_eq!(parse(&format!("a@{long}")), Err(JidError::Domain));
    let longest = "x".repeat(MAX_PART_BYTES);
    assert!(parse(&format!("{longest}@example.com/{longest}")).is_ok());
}

#[test]
fn spaces_of_a_resource_are_mapped_and_wide_letters_of_a_localpart_narrowed() {
    assert_eq!(parse("a@b.c/x\u{a0}y").unwrap().to_string(), "a@b.c/x y");
    assert_eq!(parse("ｊuliet@b.c").unwrap().to_string(), "juliet@b.c");
}

#[test]
fn what_is_parsed_is_its_own_normal_form() {
    for text in ["Ⓐ@b.c", "Σίσυφος@BÜCHER.example/Ｘ", "a@straße.example", "a@XN--BCHER-KVA.example/é"] {
        if let Ok(jid) = parse(text) {
            assert_eq!(parse(jid.as_str()), Ok(jid.clone()), "{text}");
        }
    }
}

#[test]
fn the_bare_part_is_what_stands_before_the_first_slash() {
    assert_eq!(bare_str(&parse("a@b.c/d/e").unwrap()), "a@b.c");
    assert_eq!(bare_str(&parse("b.c/d@e").unwrap()), "b.c");
    assert_eq!(bare_str(&parse("b.c").unwrap()), "b.c");
}

#[test]
fn a_cache_answers_as_the_parser_does() {
    let mut cache = AddressCache::new();
    for text in ["Juliet@Example.com/a", "juliet@example.com/a", "@", "x@y/z", "Juliet@Example.com/a", "@"] {
        assert_eq!(cache.parse(text), parse(text), "{text}");
    }
}
