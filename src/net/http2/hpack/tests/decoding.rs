use super::*;

fn check(blocks: &[(&str, &[(&str, &str)])], table: usize) {
    let mut decoder = Decoder::new(table);
    if table < DEFAULT_TABLE {
        let mut update = Vec::new();
        integer::write(&mut update, 0x20, 5, table);
        assert_eq!(hear(&mut decoder, &update), Ok(Vec::new()));
    }
    for (block, fields) in blocks {
        assert_eq!(hear(&mut decoder, &bytes(block)), Ok(said(fields)));
    }
}

#[test]
fn the_fields_of_rfc_7541_c_2_are_read() {
    let mut decoder = Decoder::new(DEFAULT_TABLE);
    for (block, name, value) in [
        ("400a 6375 7374 6f6d 2d6b 6579 0d63 7573 746f 6d2d 6865 6164 6572", "custom-key", "custom-header"),
        ("040c 2f73 616d 706c 652f 7061 7468", ":path", "/sample/path"),
        ("1008 7061 7373 776f 7264 0673 6563 7265 74", "password", "secret"),
        ("82", ":method", "GET"),
        ("be", "custom-key", "custom-header"),
    ] {
        assert_eq!(hear(&mut decoder, &bytes(block)), Ok(said(&[(name, value)])));
    }
    assert!(hear(&mut decoder, &[0xbf]).is_err(), "there is one field in the table");
}

#[test]
fn the_requests_of_rfc_7541_c_3_and_c_4_are_read() {
    const FIRST: &[(&str, &str)] =
        &[(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "www.example.com")];
    const SECOND: &[(&str, &str)] = &[
        (":method", "GET"),
        (":scheme", "http"),
        (":path", "/"),
        (":authority", "www.example.com"),
        ("cache-control", "no-cache"),
    ];
    const THIRD: &[(&str, &str)] = &[
        (":method", "GET"),
        (":scheme", "https"),
        (":path", "/index.html"),
        (":authority", "www.example.com"),
        ("custom-key", "custom-value"),
    ];
    let plain = [
        ("8286 8441 0f77 7777 2e65 7861 6d70 6c65 2e63 6f6d", FIRST),
        ("8286 84be 5808 6e6f 2d63 6163 6865", SECOND),
        ("8287 85bf 400a 6375 7374 6f6d 2d6b 6579 0c63 7573 746f 6d2d 7661 6c75 65", THIRD),
    ];
    let compressed = [
        ("8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff", FIRST),
        ("8286 84be 5886 a8eb 1064 9cbf", SECOND),
        ("8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf", THIRD),
    ];
    check(&plain, DEFAULT_TABLE);
    check(&compressed, DEFAULT_TABLE);
}

#[test]
fn the_responses_of_rfc_7541_c_5_and_c_6_are_read_though_they_evict() {
    const COOKIE: &str = "foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1";
    const FIRST: &[(&str, &str)] = &[
        (":status", "302"),
        ("cache-control", "private"),
        ("date", "Mon, 21 Oct 2013 20:13:21 GMT"),
        ("location", "https://www.example.com"),
    ];
    const SECOND: &[(&str, &str)] = &[
        (":status", "307"),
        ("cache-control", "private"),
        ("date", "Mon, 21 Oct 2013 20:13:21 GMT"),
        ("location", "https://www.example.com"),
    ];
    const THIRD: &[(&str, &str)] = &[
        (":status", "200"),
        ("cache-control", "private"),
        ("date", "Mon, 21 Oct 2013 20:13:22 GMT"),
        ("location", "https://www.example.com"),
        ("content-encoding", "gzip"),
        ("set-cookie", COOKIE),
    ];
    let plain = [
        (
            "4803 3330 3258 0770 7269 7661 7465 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32 \
             3120 474d 546e 1768 7474 7073 3a2f 2f77 7777 2e65 7861 6d70 6c65 2e63 6f6d",
            FIRST,
        ),
        ("4803 3330 37c1 c0bf", SECOND),
        (
            "88c1 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32 3220 474d 54c0 5a04 677a 6970 \
             7738 666f 6f3d 4153 444a 4b48 514b 425a 584f 5157 454f 5049 5541 5851 5745 4f49 553b 206d 6178 2d61 \
             6765 3d33 3630 303b 2076 6572 7369 6f6e 3d31",
            THIRD,
        ),
    ];
    let compressed = [
        (
            "4882 6402 5885 aec3 771a 4b61 96d0 7abe 9410 54d4 44a8 2005 9504 0b81 66e0 82a6 2d1b ff6e 919d 29ad \
             1718 63c7 8f0b 97c8 e9ae 82ae 43d3",
            FIRST,
        ),
        ("4883 640e ffc1 c0bf", SECOND),
        (
            "88c1 6196 d07a be94 1054 d444 a820 0595 040b 8166 e084 a62d 1bff c05a 839b d9ab 77ad 94e7 821d d7f2 \
             e6c7 b335 dfdf cd5b 3960 d5af 2708 7f36 72c1 ab27 0fb5 291f 9587 3160 65c0 03ed 4ee5 b106 3d50 07",
            THIRD,
        ),
    ];
    check(&plain, 256);
    check(&compressed, 256);
}

#[test]
fn a_name_that_http_2_does_not_allow_is_told_and_keeps_its_place_in_the_table() {
    let mut decoder = Decoder::new(DEFAULT_TABLE);
    let names = ["", "Host", "a b", "a\"", ":", ":Path", ":unknown", "caf\u{e9}", "x:"];
    for compressed in [false, true] {
        for name in names {
            let block = literal(0x40, name.as_bytes(), b"value", compressed);
            let mut sizes = 0;
            let took = decoder.decode(&block, |found, value, size| {
                assert_eq!((found, size), (Name::Malformed, name.len() + 5 + 32), "{name:?}");
                assert_eq!(value.expect("a value"), "value");
                sizes += size;
            });
            assert_eq!(took, Ok(()));
            assert!(sizes > 0);
        }
    }
    let both = 2 * names.len() as u8;
    assert!(hear(&mut decoder, &[0x80 | (61 + both)]).is_ok());
    assert!(hear(&mut decoder, &[0x80 | (62 + both)]).is_err());
    for (name, expected) in
        [(":protocol", Name::Protocol), (":status", Name::Status), ("x", Name::Regular(HeaderName::from_static("x")))]
    {
        let mut found = None;
        let took = decoder.decode(&literal(0, name.as_bytes(), b"", true), |name, _, _| found = Some(name));
        assert_eq!((took, found), (Ok(()), Some(expected)));
    }
}

#[test]
fn a_value_that_no_field_may_have_is_none() {
    for bad in [&b"a\rb"[..], b"a\nb", b"a\0b", b" a", b"a ", b"\ta", b"a\t", b" ", b"\x7f"] {
        for (first, compressed) in [(0x00, false), (0x40, true), (0x10, true), (0x40, false)] {
            let mut decoder = Decoder::new(DEFAULT_TABLE);
            let mut block = literal(first, b"x-a", bad, compressed);
            if first == 0x40 {
                block.push(0xbe);
            }
            let mut count = 0;
            let took = decoder.decode(&block, |_, value, size| {
                assert_eq!((value, size), (None, 3 + bad.len() + 32), "{bad:?}");
                count += 1;
            });
            assert_eq!((took, count), (Ok(()), if first == 0x40 { 2 } else { 1 }));
        }
    }
    for good in [&b""[..], b"a b", b"a\tb", b"\xff\x80", b"caf\xc3\xa9"] {
        let mut decoder = Decoder::new(DEFAULT_TABLE);
        let took = decoder.decode(&literal(0, b"x", good, true), |_, value, _| {
            assert_eq!(value.expect("a value").as_bytes(), good);
        });
        assert_eq!(took, Ok(()));
    }
}

#[test]
fn a_value_that_is_never_to_be_indexed_is_sensitive() {
    let mut decoder = Decoder::new(DEFAULT_TABLE);
    for (first, sensitive) in [(0x10, true), (0x00, false), (0x40, false)] {
        let took = decoder.decode(&literal(first, b"x", b"y", false), |_, value, _| {
            assert_eq!(value.expect("a value").is_sensitive(), sensitive);
        });
        assert_eq!(took, Ok(()));
    }
}

#[test]
fn the_size_of_the_table_changes_at_the_start_of_a_block_only_and_twice_at_most() {
    let heard = |block: &[u8]| hear(&mut Decoder::new(DEFAULT_TABLE), block);
    assert_eq!(heard(&bytes("20 3fe11f 82")), Ok(said(&[(":method", "GET")])), "to nothing, then to 4096");
    assert!(heard(&bytes("20")).is_ok());
    assert!(heard(&bytes("20 20 20")).is_err(), "three times");
    assert!(heard(&bytes("82 20")).is_err(), "behind a field");
    assert!(heard(&bytes("20 82 3fe11f")).is_err());
    assert!(heard(&bytes("3fe21f")).is_err(), "4097");
    assert!(heard(&bytes("3fe1")).is_err(), "cut");
}

#[test]
fn a_smaller_table_keeps_the_newest_fields() {
    let mut decoder = Decoder::new(DEFAULT_TABLE);
    let mut block = Vec::new();
    for name in [b"a", b"b", b"c"] {
        block.extend(literal(0x40, name, b"1", false));
    }
    hear(&mut decoder, &block).expect("in order");
    // 34 bytes each.
    assert!(hear(&mut decoder, &bytes("3f24 be bf")).is_err(), "67 bytes hold one of them");
    let mut decoder = Decoder::new(DEFAULT_TABLE);
    hear(&mut decoder, &block).expect("in order");
    assert_eq!(hear(&mut decoder, &bytes("3f25 be bf")), Ok(said(&[("c", "1"), ("b", "1")])));
    assert!(hear(&mut decoder, &bytes("c0")).is_err());
}

#[test]
fn a_field_that_is_larger_than_the_table_empties_it() {
    let mut decoder = Decoder::new(DEFAULT_TABLE);
    hear(&mut decoder, &literal(0x40, b"a", b"1", false)).expect("in order");
    let exact = vec![b'x'; DEFAULT_TABLE - 32 - 1];
    hear(&mut decoder, &literal(0x40, b"b", &exact, true)).expect("in order");
    assert!(hear(&mut decoder, &[0xbe]).is_ok(), "it fills the table");
    assert!(hear(&mut decoder, &[0xbf]).is_err(), "alone");
    let mut decoder = Decoder::new(DEFAULT_TABLE);
    hear(&mut decoder, &literal(0x40, b"a", b"1", false)).expect("in order");
    let large = vec![b'x'; DEFAULT_TABLE - 32];
    let heard = hear(&mut decoder, &literal(0x40, b"b", &large, false)).expect("it is a field all the same");
    assert_eq!(heard[0].1.as_ref().map(String::len), Some(large.len()));
    assert!(hear(&mut decoder, &[0xbe]).is_err(), "the table is empty");
    hear(&mut decoder, &literal(0x40, b"c", b"3", false)).expect("in order");
    assert_eq!(hear(&mut decoder, &[0xbe]), Ok(said(&[("c", "3")])));
}

#[test]
fn a_name_is_known_though_its_own_field_evicts_it() {
    let mut decoder = Decoder::new(DEFAULT_TABLE);
    let half = vec![b'x'; 2500];
    hear(&mut decoder, &literal(0x40, b"my-name", &half, false)).expect("in order");
    let block = [&[0x40 | 0x3e][..], &string(&half, true)].concat();
    for _ in 0..3 {
        let heard = hear(&mut decoder, &block).expect("in order");
        assert_eq!(heard[0].0, "my-name");
        assert!(hear(&mut decoder, &[0xbf]).is_err(), "there is room for one");
    }
}

#[test]
fn a_path_that_is_said_again_is_the_same_and_another_is_not() {
    let mut decoder = Decoder::new(DEFAULT_TABLE);
    let path = |text: &str, compressed| [&[0x04][..], &string(text.as_bytes(), compressed)].concat();
    let long = "/".repeat(300);
    for text in
        ["/a", "/a", "/a", "/a", "/ab", "/a", "/ab", "/ab", "/ab", "/ab", "/", "", "", "", "/ab", &long, &long, &long]
    {
        for compressed in [true, false, true, true, true] {
            assert_eq!(hear(&mut decoder, &path(text, compressed)), Ok(said(&[(":path", text)])));
            // And with something behind it.
            let block = [path(text, compressed), vec![0x82]].concat();
            assert_eq!(hear(&mut decoder, &block), Ok(said(&[(":path", text), (":method", "GET")])));
        }
    }
    for _ in 0..4 {
        assert_eq!(hear(&mut decoder, &path(" /", true)), Ok(vec![(":path".to_owned(), None)]));
    }
    let whole = path("/a-path", true);
    for _ in 0..4 {
        hear(&mut decoder, &whole).expect("in order");
    }
    assert!((1..whole.len()).all(|end| hear(&mut decoder, &whole[..end]).is_err()));
}

#[test]
fn fields_that_are_named_again_and_again_share_their_memory() {
    let mut decoder = Decoder::new(DEFAULT_TABLE);
    let large = vec![b'x'; 4000];
    let mut first = None;
    decoder.decode(&literal(0x40, b"x-a", &large, true), |_, value, _| first = value).expect("in order");
    let first = first.expect("a value");
    let mut count = 0;
    let took = decoder.decode(&[0xbe; 10_000], |_, value, size| {
        assert_eq!(size, 3 + 4000 + 32);
        assert_eq!(value.expect("a value").as_bytes().as_ptr(), first.as_bytes().as_ptr());
        count += 1;
    });
    assert_eq!((took, count), (Ok(()), 10_000));
}

#[test]
fn a_block_that_is_cut_anywhere_is_read_up_to_there_or_is_an_error() {
    let mut block = bytes("3fe11f 8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff");
    block.extend(literal(0x40, b"x-custom", &[b'v'; 300], true));
    block.extend(literal(0x00, b"x-custom", &[b'v'; 300], false));
    block.extend([0xbe, 0xbf]);
    let whole = hear(&mut Decoder::new(DEFAULT_TABLE), &block).expect("in order");
    assert_eq!(whole.len(), 8);
    let mut clean = 0;
    for end in 0..block.len() {
        if let Ok(part) = hear(&mut Decoder::new(DEFAULT_TABLE), &block[..end]) {
            assert_eq!(part, whole[..part.len()]);
            clean += 1;
        }
    }
    assert_eq!(clean, 1 + 8, "at the start, behind the update and behind each field but the last");
}
