use http::header;

use super::*;

#[test]
fn a_field_that_is_said_again_becomes_a_byte() {
    let fields = [
        (header::SERVER, HeaderValue::from_static("node/1.0")),
        (header::DATE, HeaderValue::from_static("Mon, 21 Oct 2013 20:13:21 GMT")),
        (header::CONTENT_TYPE, HeaderValue::from_static("text/html")),
        (HeaderName::from_static("x-own"), HeaderValue::from_static("")),
    ];
    let (mut encoder, mut decoder) = (Encoder::new(), Decoder::new(DEFAULT_TABLE));
    let lengths: Vec<usize> = (0..4)
        .map(|_| {
            let block = encoded(&mut encoder, &fields);
            assert_eq!(hear(&mut decoder, &block).expect("in order").len(), 5);
            block.len()
        })
        .collect();
    assert!(lengths[0] > 50 && lengths[1] > 50);
    assert_eq!(lengths[2..], [5, 5]);
}

#[test]
fn a_field_that_is_never_said_again_does_not_get_into_the_table() {
    let etags = (0..5_000).map(|n| (header::ETAG, HeaderValue::try_from(format!("\"{n:08x}\"")).expect("a value")));
    let always = (header::SERVER, HeaderValue::from_static("node/1.0"));
    let (mut encoder, mut decoder) = (Encoder::new(), Decoder::new(DEFAULT_TABLE));
    for (n, etag) in etags.enumerate() {
        let block = encoded(&mut encoder, &[always.clone(), etag]);
        hear(&mut decoder, &block).expect("in order");
        assert!(n < 2 || block[..2] == [0x88, 0xbe], "the table has the server alone");
    }
}

#[test]
fn a_value_that_differs_in_one_byte_is_another() {
    for length in 1..70 {
        let (mut encoder, mut decoder) = (Encoder::new(), Decoder::new(DEFAULT_TABLE));
        let usual = "a".repeat(length);
        for changed in 0..length {
            let mut other = usual.clone();
            other.replace_range(changed..=changed, "b");
            for value in [&usual, &usual, &usual, &other] {
                let field = (header::VIA, HeaderValue::try_from(value).expect("a value"));
                let block = encoded(&mut encoder, &[field]);
                assert_eq!(hear(&mut decoder, &block), Ok(said(&[(":status", "200"), ("via", value)])));
            }
        }
    }
}

#[test]
fn the_table_takes_new_fields_for_ever() {
    let etag = |n: u32| (header::ETAG, HeaderValue::try_from(format!("\"{n}\"")).expect("a value"));
    let mut encoder = Encoder::new();
    for n in 0..5_000 {
        let lengths = [(); 4].map(|()| encoded(&mut encoder, &[etag(n)]).len());
        assert!(lengths[0] > 4 && lengths[3] == 2, "{lengths:?} at {n}");
    }
    assert!((4_990..5_000).all(|n| encoded(&mut encoder, &[etag(n)]).len() == 2), "the last ones are still there");
}

#[test]
fn fields_that_want_the_same_place_do_not_put_each_other_out_for_ever() {
    let fields: Vec<_> =
        (0..40).map(|n| (header::VARY, HeaderValue::try_from(format!("value-{n}")).expect("a value"))).collect();
    let mut encoder = Encoder::new();
    for _ in 0..10 {
        encoded(&mut encoder, &fields);
    }
    let before = encoder.number();
    let blocks: Vec<_> = (0..10).map(|_| encoded(&mut encoder, &fields)).collect();
    assert_eq!(encoder.number(), before, "nothing is put into the table any more");
    assert!(blocks.iter().all(|block| block.len() < 40 * 6), "and most fields are in it");
}

#[test]
fn what_must_not_be_guessed_is_never_indexed() {
    let mut sensitive = HeaderValue::from_static("secret");
    sensitive.set_sensitive(true);
    for (name, value) in [
        (header::SET_COOKIE, HeaderValue::from_static("a=b")),
        (header::AUTHORIZATION, HeaderValue::from_static("a")),
        (header::PROXY_AUTHORIZATION, HeaderValue::from_static("a")),
        (header::SERVER, sensitive.clone()),
        (HeaderName::from_static("x-own"), sensitive),
    ] {
        let (mut encoder, mut decoder) = (Encoder::new(), Decoder::new(DEFAULT_TABLE));
        for _ in 0..4 {
            let mut out = Vec::new();
            encoder.field(&mut out, &name, &value);
            assert_eq!(out[0] & 0xf0, 0x10, "{name}");
            let took = decoder.decode(&out, |found, said, _| {
                assert_eq!(found, Name::Regular(name.clone()));
                assert!(said.is_some_and(|said| said == value && said.is_sensitive()));
            });
            assert_eq!(took, Ok(()));
        }
    }
}

#[test]
fn each_status_is_read_as_it_was_said() {
    let (mut encoder, mut decoder) = (Encoder::new(), Decoder::new(DEFAULT_TABLE));
    for status in (100..1000).map(|code| StatusCode::from_u16(code).expect("a status")) {
        let mut out = Vec::new();
        encoder.status(&mut out, status);
        assert_eq!(hear(&mut decoder, &out), Ok(said(&[(":status", status.as_str())])));
    }
}

#[test]
fn the_peer_hears_of_the_smallest_and_the_last_size_with_the_next_block() {
    let mut encoder = Encoder::new();
    let block = |encoder: &mut Encoder| {
        let mut out = Vec::new();
        encoder.field(&mut out, &header::SERVER, &HeaderValue::from_static("s"));
        out
    };
    assert_eq!(block(&mut encoder), [0x0f, 54 - 15, 1, b's']);
    encoder.resize(65_536);
    encoder.resize(4_096);
    assert_eq!(block(&mut encoder), [0x76, 1, b's'], "nothing changes");
    for size in [0, 100, 4_096] {
        encoder.resize(size);
    }
    let out = block(&mut encoder);
    assert_eq!(out[..4], [0x20, 0x3f, 0xe1, 0x1f], "to nothing, then to 4096");
    encoder.resize(100);
    assert_eq!(block(&mut encoder)[..2], [0x3f, 69]);
    assert_eq!(block(&mut encoder).len(), 1, "and once only");
    encoder.resize(0);
    let mut out = Vec::new();
    encoder.status(&mut out, StatusCode::OK);
    assert_eq!(out, [0x20, 0x88]);
    for _ in 0..3 {
        assert_eq!(block(&mut encoder), [0x0f, 54 - 15, 1, b's'], "no table, no entry");
    }
}
