use starling_xml::*;
use std::time::Instant;
fn name(n: usize) -> String {
    let a = b"abcdefghijklmnopqrstuvwxyz";
    format!("{}{}{}", a[n / 676 % 26] as char, a[n / 26 % 26] as char, a[n % 26] as char)
}
#[test]
fn decl() {
    let t = Instant::now();
    let mut r = Reader::new(Limits::default());
    let s = format!("<?xml version='1.0' {}", " ".repeat(260_000));
    for b in s.as_bytes().chunks(1) {
        let mut b = b;
        r.read(&mut b).unwrap();
    }
    println!("declaration bytewise {:?}", t.elapsed());
}
#[test]
fn prefixes() {
    let mut s = String::new();
    let mut n = 0;
    for _ in 0..62 {
        s.push_str("<a");
        for _ in 0..63 {
            s.push_str(&format!(" xmlns:{}='{}'", name(n), name(n)));
            n += 1;
        }
        s.push('>');
    }
    let el = {
        let mut e = String::from("<a");
        for i in 0..64 {
            e.push_str(&format!(" {}:x=''", name(i)));
        }
        e + "/>"
    };
    while s.len() + el.len() < 255_000 {
        s.push_str(&el);
    }
    s.push_str(&"</a>".repeat(62));
    let t = Instant::now();
    let r = parse(&s, &Scope::none(), Limits::default());
    println!("prefixed attributes {:?} {:?}", r.map(|_| ()), t.elapsed());
}
#[test]
fn children() {
    for ns in ["&amp;".repeat(24_000), "x".repeat(128_000)] {
        let s = format!("<message xmlns:p='{ns}'>{}</message>", "<p:a/>".repeat(20_000));
        let e = parse(&s, &Scope::client(), Limits::default());
        let Ok(e) = e else {
            println!("children refused {e:?}");
            continue;
        };
        let t = Instant::now();
        e.as_raw().child("body", "u");
        println!("child() {:?}", t.elapsed());
        let t = Instant::now();
        let tree = e.as_raw().to_tree().unwrap();
        println!("to_tree() {:?} rss {}", t.elapsed(), std::fs::read_to_string("/proc/self/statm").unwrap());
        drop(tree);
    }
}
#[test]
fn long_attribute() {
    let s = format!("<message a='{}'>{}</message>", "x".repeat(128_000), "<a/>".repeat(30_000));
    let e = parse(&s, &Scope::client(), Limits::default()).unwrap();
    let t = Instant::now();
    e.as_raw().child("body", "u");
    println!("child() beside a long attribute {:?}", t.elapsed());
    let t = Instant::now();
    let mut o = vec![];
    restamp(&e.as_raw(), &[], &mut o);
    println!("restamp {:?}", t.elapsed());
    let s = s.replace("<message", "<c:message xmlns:c='jabber:client'").replace("</m", "</c:m");
    let e = parse(&s, &Scope::client(), Limits::default()).unwrap();
    let t = Instant::now();
    let mut o = vec![];
    restamp(&e.as_raw(), &[], &mut o);
    println!("restamp slow {:?}", t.elapsed());
}
#[test]
fn deep_slow() {
    let s = format!(
        "<c:message xmlns:c='jabber:client'>{}{}{}</c:message>",
        "<a x='' xmlns='u'>".repeat(62),
        "<b/>".repeat(50_000),
        "</a>".repeat(62)
    );
    let e = parse(&s, &Scope::client(), Limits::default()).unwrap();
    let t = Instant::now();
    let mut o = vec![];
    restamp(&e.as_raw(), &[], &mut o);
    println!("restamp slow, deep {:?}", t.elapsed());
}
