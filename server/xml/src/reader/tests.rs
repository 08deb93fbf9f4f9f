use super::*;

const HEADER: &str = "<?xml version='1.0'?><stream:stream xmlns='jabber:client' \
    xmlns:stream='http://etherx.jabber.org/streams' version='1.0' to='example.com' xml:lang='de'>";

/// The frames, as text, of a stream cut into pieces of `size` bytes.
fn frames(stream: &[u8], size: usize, limits: Limits) -> Result<Vec<String>, Error> {
    let mut reader = Reader::new(limits);
    let mut frames = Vec::new();
    for mut piece in stream.chunks(size.max(1)) {
        while let Some(frame) = reader.read(&mut piece)? {
            frames.push(match frame {
                Frame::Open(header) => format!("open {} {}", header.name(), header.namespace()),
                Frame::Element(raw) => format!("{} {} {}", raw.name(), raw.namespace(), raw.as_str()),
                Frame::Close => "close".to_owned(),
            });
        }
        assert!(piece.is_empty());
    }
    Ok(frames)
}

fn condition(stream: &[u8]) -> &'static str {
    let whole = frames(stream, usize::MAX, Limits::default()).unwrap_err();
    let cut = frames(stream, 1, Limits::default()).unwrap_err();
    assert_eq!(whole, cut, "{}", String::from_utf8_lossy(stream));
    whole.condition()
}

#[test]
fn any_fragmentation_yields_the_same_frames() {
    let stream = format!(
        "{HEADER} \n<message to=\"a>b\" id='1'><body>Grüße &amp; <![CDATA[<x>]]]]></body>\t<x xmlns='u' \
         xmlns:p='v'><p:y/></x></message ><presence/>\r\n<stream:features/><iq xmlns='jabber:client' \
         type='get'/></stream:stream >"
    );
    let whole = frames(stream.as_bytes(), usize::MAX, Limits::default()).unwrap();
    assert_eq!(whole.len(), 6, "{whole:?}");
    assert_eq!(whole[0], "open stream http://etherx.jabber.org/streams");
    assert!(whole[1].starts_with("message jabber:client <message to=\"a>b\""), "{}", whole[1]);
    assert_eq!(whole[3], "features http://etherx.jabber.org/streams <stream:features/>");
    for size in 1..stream.len() {
        assert_eq!(frames(stream.as_bytes(), size, Limits::default()).unwrap(), whole, "{size}");
    }
}

#[test]
fn the_header_says_what_it_declares() {
    let mut reader = Reader::new(Limits::default());
    let mut input = HEADER.as_bytes();
    let Ok(Some(Frame::Open(header))) = reader.read(&mut input) else { panic!("no header") };
    assert_eq!(header.attribute("to").as_deref(), Some("example.com"));
    assert_eq!(header.attribute("version").as_deref(), Some("1.0"));
    assert_eq!(header.attribute("from"), None);
    assert_eq!(header.lang().as_deref(), Some("de"));
    assert_eq!(*header.scope(), Scope::client());
}

#[test]
fn accessors_find_what_is_there() {
    let scope = Scope::new("jabber:client", [("p", "urn:p")]);
    let text = "<message to='a&amp;b' type=\"chat\" p:q='1' xml:lang='en' other='x'>t1<body>Hi <b/>you</body>\
                <x xmlns='urn:x' xmlns:z='urn:z'><z:y k='v'/>in</x>t2&lt;</message>";
    let element = parse(text, &scope, Limits::default()).unwrap();
    let raw = element.as_raw();
    assert!(raw.is("message", "jabber:client"));
    assert_eq!(raw.attribute("to").as_deref(), Some("a&b"));
    assert_eq!(raw.attribute("type").as_deref(), Some("chat"));
    assert_eq!(raw.attribute("other").as_deref(), Some("x"));
    assert_eq!(raw.attribute("id"), None);
    assert_eq!(raw.attribute("q"), None);
    assert_eq!(raw.attribute_ns("urn:p", "q").as_deref(), Some("1"));
    assert_eq!(raw.lang().as_deref(), Some("en"));
    assert_eq!(raw.text(), "t1t2<");
    let names: Vec<_> = raw.children().map(|child| (child.name(), child.namespace().to_owned())).collect();
    assert_eq!(names, [("body", "jabber:client".to_owned()), ("x", "urn:x".to_owned())]);
    assert_eq!([0, 1, 2, 9].map(|most| raw.count_children(most)), [0, 1, 2, 2]);
    assert_eq!(raw.child("body", "jabber:client").unwrap().text(), "Hi you");
    let inner = raw.child("x", "urn:x").unwrap();
    assert_eq!(inner.as_str(), "<x xmlns='urn:x' xmlns:z='urn:z'><z:y k='v'/>in</x>");
    assert_eq!(inner.child("y", "urn:z").unwrap().attribute("k").as_deref(), Some("v"));
    assert_eq!(raw.to_owned(), element);
}

#[test]
fn rfc6120_11_1_what_xmpp_forbids_is_restricted_xml() {
    for bad in [
        "<!-- x -->",
        "<?php x?>",
        "<message><!-- x --></message>",
        "<message><?x y?></message>",
        "<!DOCTYPE x>",
        "<message>&lol;</message>",
        "<message to='&lol;'/>",
        "<message><!DOCTYPE x></message>",
    ] {
        assert_eq!(condition(format!("{HEADER}{bad}").as_bytes()), "restricted-xml", "{bad}");
    }
    for bad in ["<!DOCTYPE stream:stream>", "<!-- x -->", "<?xml version='1.0'?><?x y?>", "<?xml-stylesheet x?>"] {
        assert_eq!(condition(format!("{bad}<a/>").as_bytes()), "restricted-xml", "{bad}");
    }
}

#[test]
fn rfc6120_11_3_what_is_not_well_formed_is_refused() {
    for bad in [
        "<message></body>",
        "<message><body></message></body>",
        "<message to='a' to='b'/>",
        "<message to='a'from='b'/>",
        "<message to=a/>",
        "<message to/>",
        "<message to='<'/>",
        "<message>&</message>",
        "<message>&amp</message>",
        "<message>& amp;</message>",
        "<message>&#0;</message>",
        "<message>&#xD800;</message>",
        "<message>&#xFFFF;</message>",
        "<message>&#x110000;</message>",
        "<message>&#+65;</message>",
        "<message>&#;</message>",
        "<message>]]></message>",
        "<message>\u{1}</message>",
        "<message>\u{ffff}</message>",
        "<message to='\u{b}'/>",
        "<message><![CDATA[\u{0}]]></message>",
        "<message><![cdata[x]]></message>",
        "<1message/>",
        "<message 1a='x'/>",
        "< message/>",
        "<message/ >",
        "<a:b:c xmlns:a='x'/>",
        "<:a/>",
        "</message>",
        "</stream>",
        "<message><!x></message>",
        "<a xmlns:p='u' xmlns:q='u' p:x='1' q:x='2'/>",
        "<a xmlns:xml='urn:x'/>",
        "<a xmlns:x='http://www.w3.org/XML/1998/namespace'/>",
        "<a xmlns='http://www.w3.org/XML/1998/namespace'/>",
        "<a xmlns:xmlns='urn:x'/>",
        "<a xmlns:x='http://www.w3.org/2000/xmlns/'/>",
        "<a xmlns:x=''/>",
        "<a xmlns:x='u' xmlns:x='v'/>",
        "<a xmlns='u' xmlns='u'/>",
    ] {
        assert_eq!(condition(format!("{HEADER}{bad}").as_bytes()), "not-well-formed", "{bad}");
    }
    for bad in [
        "x",
        "</stream:stream>",
        " <?xml version='1.0'?>",
        "<?xml version='2.0'?>",
        "<?xml encoding='utf-8'?>",
        "<?xml version='1.0' standalone='maybe'?>",
        "<?xml version='1.0'encoding='utf-8'?>",
        "\u{feff}<stream/>",
    ] {
        let got = condition(format!("{bad}<a/>").as_bytes());
        // White space before the declaration makes it a processing instruction of a reserved name.
        assert_eq!(got, if bad.starts_with(' ') { "restricted-xml" } else { "not-well-formed" }, "{bad}");
    }
}

#[test]
fn rfc6120_4_9_3_2_undeclared_prefixes_are_bad_namespace_prefix() {
    for bad in ["<x:a/>", "<a x:b='1'/>", "<a><b xmlns:x='u'/><x:c/></a>", "<xmlns:a/>"] {
        assert_eq!(condition(format!("{HEADER}{bad}").as_bytes()), "bad-namespace-prefix", "{bad}");
    }
    assert_eq!(condition(b"<stream:stream xmlns='jabber:client'>"), "bad-namespace-prefix");
}

#[test]
fn rfc6120_11_6_other_encodings_are_unsupported_encoding() {
    assert_eq!(condition(b"<?xml version='1.0' encoding='ISO-8859-1'?><a>"), "unsupported-encoding");
    for bad in [&b"\xff"[..], b"\xc0\x80", b"\xed\xa0\x80", b"\xf5\x80\x80\x80", b"\xe2\x82"] {
        let mut stream = HEADER.as_bytes().to_vec();
        stream.extend_from_slice(b"<message><body>");
        stream.extend_from_slice(bad);
        stream.extend_from_slice(b"</body></message>");
        assert_eq!(condition(&stream), "unsupported-encoding", "{bad:x?}");
    }
}

#[test]
fn text_between_stanzas_is_bad_format() {
    for bad in ["x", "&amp;", "&#32;", "<a/>x", "<![CDATA[]]>"] {
        assert_eq!(condition(format!("{HEADER}{bad}").as_bytes()), "bad-format", "{bad}");
    }
}

#[test]
fn limits_are_policy_violations_as_soon_as_they_are_passed() {
    let limits = Limits { stanza_bytes: 200, depth: 3, attributes: 3 };
    let read = |content: &str, size| {
        let stream = format!("<stream xmlns='jabber:client'>{content}");
        frames(stream.as_bytes(), size, limits)
    };
    let fits = format!("<m>{}</m>", "x".repeat(193));
    for size in [1, 7, usize::MAX] {
        assert_eq!(read(&fits, size).unwrap().len(), 2);
        assert_eq!(read(&format!("<m>{}", "x".repeat(198)), size).unwrap_err(), Error::TooLarge(200));
        assert_eq!(read(&format!("<m>{}</m>", "x".repeat(194)), size).unwrap_err(), Error::TooLarge(200));
        assert_eq!(read("<a><b><c/></b></a>", size).unwrap().len(), 2);
        assert_eq!(read("<a><b><c><d", size).unwrap().len(), 1);
        assert_eq!(read("<a><b><c><d>", size).unwrap_err(), Error::TooDeep(3));
        assert_eq!(read("<a b='' c='' d=''/>", size).unwrap().len(), 2);
        assert_eq!(read("<a b='' c='' d='' xmlns='u'/>", size).unwrap_err(), Error::TooManyAttributes(3));
    }
    assert_eq!(frames(format!("<a b='{}", "x".repeat(200)).as_bytes(), 9, limits).unwrap_err(), Error::TooLarge(200));
}

#[test]
fn an_idle_reader_owns_no_buffer_and_is_small() {
    assert!(size_of::<Reader>() <= 200, "{}", size_of::<Reader>());
    let mut reader = Reader::new(Limits::default());
    for piece in [HEADER, "<message>", "x</message>", " "] {
        let mut input = piece.as_bytes();
        while reader.read(&mut input).unwrap().is_some() {}
        assert_eq!(reader.is_mid_stanza(), piece == "<message>");
        assert_eq!(reader.partial.is_some(), piece == "<message>");
    }
}

#[test]
fn after_its_end_or_an_error_a_stream_stays_ended_until_a_restart() {
    let mut reader = Reader::new(Limits::default());
    let stream = format!("{HEADER}</stream:stream><message/>");
    let mut input = stream.as_bytes();
    assert!(matches!(reader.read(&mut input), Ok(Some(Frame::Open(_)))));
    assert!(matches!(reader.read(&mut input), Ok(Some(Frame::Close))));
    assert_eq!(reader.read(&mut input).unwrap_err(), Error::Ended);
    reader.restart();
    let mut input = "<stream/>".as_bytes();
    assert!(matches!(reader.read(&mut input), Ok(Some(Frame::Open(_)))));
    assert!(matches!(reader.read(&mut input), Ok(Some(Frame::Close))));
}

#[test]
fn what_lies_whole_in_the_input_is_not_copied() {
    let stream = format!("{HEADER}<message/>");
    let mut reader = Reader::new(Limits::default());
    let mut input = stream.as_bytes();
    reader.read(&mut input).unwrap();
    let Ok(Some(Frame::Element(raw))) = reader.read(&mut input) else { panic!("no element") };
    assert!(stream.as_bytes().as_ptr_range().contains(&raw.as_str().as_ptr()));
}

#[test]
fn time_is_linear_in_one_byte_reads() {
    // A quadratic reader would look at 10^11 bytes here.
    let limits = Limits { stanza_bytes: 600_000, ..Limits::default() };
    for inner in ["x".repeat(500_000), format!("<a b='{}'/>", "x".repeat(500_000)), "<b/>".repeat(125_000)] {
        let stream = format!("<stream xmlns='jabber:client'><message>{inner}</message>");
        assert_eq!(frames(stream.as_bytes(), 1, limits).unwrap().len(), 2);
    }
    let mut reader = Reader::new(limits);
    for mut byte in format!("<?xml version='1.0' {}", " ".repeat(500_000)).as_bytes().chunks(1) {
        assert!(reader.read(&mut byte).unwrap().is_none());
    }
}

#[test]
fn white_space_before_a_restarted_stream_belongs_to_the_one_before() {
    let mut reader = Reader::new(Limits::default());
    for (index, header) in ["<?xml version='1.0'?><stream>", "\n <?xml version='1.0'?><stream>"].into_iter().enumerate()
    {
        for size in [1, 100] {
            if index > 0 || size > 1 {
                reader.restart();
            }
            let mut opened = 0;
            for mut piece in header.as_bytes().chunks(size) {
                while let Some(frame) = reader.read(&mut piece).unwrap() {
                    assert!(matches!(frame, Frame::Open(_)));
                    opened += 1;
                }
            }
            assert_eq!(opened, 1);
        }
    }
}

#[test]
fn what_elements_inherit_is_bounded() {
    let read = |text: &str| parse(text, &Scope::client(), Limits::default()).map(drop);
    let long = "x".repeat(1025);
    for fits in [
        format!("<a xmlns='{}'/>", "x".repeat(1024)),
        format!("<a xmlns:p='{}'/>", "x".repeat(1024)),
        format!("<a p='{long}' xml:lang='{long}'/>"),
    ] {
        assert_eq!(read(&fits), Ok(()), "{fits}");
    }
    for bad in [format!("<a xmlns='{long}'/>"), format!("<a><b xmlns:p='{long}'/></a>")] {
        assert_eq!(read(&bad), Err(Error::LongNamespace(1024)), "{bad}");
    }
    // What the stream's header declares goes with every stanza that uses it.
    let header = |length| format!("<s xmlns='{}' xmlns:p='{}'>", "x".repeat(500), "y".repeat(length));
    assert_eq!(frames(header(523).as_bytes(), 9, Limits::default()).unwrap().len(), 1);
    assert_eq!(condition(header(524).as_bytes()), "policy-violation");

    // Prefixes in force, not those that went out of it.
    let declares =
        |from: usize, count: usize| -> String { (from..from + count).map(|n| format!(" xmlns:p{n}='u{n}'")).collect() };
    let nested = |count| format!("<a{}><b{}/><b{}/></a>", declares(0, 60), declares(60, 4), declares(60, count));
    assert_eq!(read(&nested(4)), Ok(()));
    assert_eq!(read(&nested(5)), Err(Error::TooManyAttributes(64)));
}
