use proptest::prelude::*;

use super::*;

fn field() -> impl Strategy<Value = (HeaderName, HeaderValue)> {
    let name = prop_oneof![
        Just("server".to_owned()),
        Just("date".to_owned()),
        Just("set-cookie".to_owned()),
        Just("x-a".to_owned()),
        "[a-z][a-z0-9-]{0,20}",
    ];
    let value = prop_oneof![
        "[ab]{0,2}",
        "[!-~]{1,40}",
        (1_500..2_500_usize).prop_map(|length| "x".repeat(length)),
        "[a-c]([ -~]{0,60}[!-~])?"
    ];
    (name, value).prop_map(|(name, value)| {
        (HeaderName::try_from(name).expect("a name"), HeaderValue::try_from(value).expect("a value"))
    })
}

#[derive(Clone, Debug)]
enum Step {
    /// A head of these of the fields that there are.
    Head(Vec<prop::sample::Index>),
    Resize(u32),
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(100) })]

    #[test]
    fn what_is_said_is_heard(
        fields in prop::collection::vec(field(), 1..40),
        steps in prop::collection::vec(
            prop_oneof![
                4 => prop::collection::vec(any::<prop::sample::Index>(), 0..20).prop_map(Step::Head),
                1 => prop_oneof![0..200_u32, 0..5_000_u32, Just(4096)].prop_map(Step::Resize),
            ],
            1..40,
        ),
    ) {
        let (mut encoder, mut decoder) = (Encoder::new(), Decoder::new(DEFAULT_TABLE));
        for step in steps {
            match step {
                Step::Resize(size) => encoder.resize(size),
                Step::Head(which) => {
                    let head: Vec<_> = which.iter().map(|index| index.get(&fields).clone()).collect();
                    let block = encoded(&mut encoder, &head);
                    let mut heard = Vec::new();
                    let took = decoder.decode(&block, |name, value, _| heard.push((name, value)));
                    prop_assert_eq!(took, Ok(()));
                    prop_assert_eq!(&heard[0], &(Name::Status, Some(HeaderValue::from_static("200"))));
                    let head = head.into_iter().map(|(name, value)| (Name::Regular(name), Some(value)));
                    prop_assert!(heard.drain(1..).eq(head));
                }
            }
        }
    }

    #[test]
    fn no_bytes_make_it_panic(blocks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 1..8)) {
        let mut decoder = Decoder::new(DEFAULT_TABLE);
        for block in blocks {
            let mut total = 0;
            let _ = decoder.decode(&block, |_, _, size| total += size);
        }
    }

    #[test]
    fn a_string_in_huffmans_code_is_itself_again(text in prop::collection::vec(any::<u8>(), 0..300)) {
        prop_assert_eq!(huffman::decoded(&huffman::encode(&text)), Ok(text));
    }

    #[test]
    fn what_is_decoded_at_all_has_the_one_code(code in prop::collection::vec(any::<u8>(), 0..40)) {
        if let Ok(text) = huffman::decoded(&code) {
            prop_assert_eq!(huffman::encode(&text), code);
        }
    }
}
