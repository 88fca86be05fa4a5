use http::HeaderValue;

use super::*;

fn prometheus(min: Option<f64>, max: Option<f64>) -> Question {
    Question::Prometheus { query: String::new(), min, max }
}

fn vector(values: &[&str]) -> String {
    let series: Vec<_> =
        values.iter().map(|value| format!("{{\"metric\":{{}},\"value\":[1.5,\"{value}\"]}}")).collect();
    format!("{{\"status\":\"success\",\"data\":{{\"resultType\":\"vector\",\"result\":[{}]}}}}", series.join(","))
}

#[test]
fn a_value_outside_of_the_bounds_fails_and_no_value_is_no_answer() {
    let most = prometheus(None, Some(0.02));
    let found = |question: &Question, values_: &[&str]| values(question, vector(values_).as_bytes());
    assert!(matches!(found(&most, &["0.01"]), Ok(Finding::Pass(_))));
    assert_eq!(found(&most, &["0.01", "0.5"]), Ok(Finding::Fail("the value is 0.5, allowed is at most 0.02".into())));
    assert!(matches!(found(&most, &["+Inf"]), Ok(Finding::Fail(_))));
    assert!(matches!(found(&most, &["NaN", "0"]), Ok(Finding::Pass(_))));
    assert_eq!(found(&most, &["NaN"]), Err("the query finds nothing".into()));
    assert_eq!(found(&most, &[]), Err("the query finds nothing".into()));
    assert!(matches!(found(&prometheus(Some(10.0), None), &["9"]), Ok(Finding::Fail(_))));
    let scalar = br#"{"status":"success","data":{"resultType":"scalar","result":[1.5,"3"]}}"#;
    assert!(matches!(values(&most, scalar), Ok(Finding::Fail(_))));
    for broken in [
        &b""[..],
        b"{}",
        b"[]",
        br#"{"data":{"resultType":"matrix","result":[]}}"#,
        br#"{"data":{"resultType":"vector","result":[{"value":[1,"x"]}]}}"#,
    ] {
        assert!(values(&most, broken).is_err());
    }
}

#[test]
fn a_webhook_says_one_of_three_words() {
    assert_eq!(verdict(br#"{"verdict":"pass"}"#), Ok(Finding::Pass(String::new())));
    assert_eq!(
        verdict(b"{\"verdict\":\"fail\",\"reason\":\"two\\nlines\",\"more\":1}"),
        Ok(Finding::Fail("two lines".into()))
    );
    assert!(matches!(verdict(br#"{"verdict":"hold"}"#), Ok(Finding::Hold(_))));
    for broken in [&b""[..], b"ok", b"{}", br#"{"verdict":"PASS"}"#, br#"{"verdict":1}"#] {
        assert!(verdict(broken).is_err());
    }
    let long = format!("{{\"verdict\":\"fail\",\"reason\":\"{}\"}}", "é".repeat(10_000));
    assert!(matches!(verdict(long.as_bytes()), Ok(Finding::Fail(reason)) if reason.chars().count() == REASON));
}

#[test]
fn a_query_is_filled_in_and_encoded() {
    let endpoint = Endpoint {
        address: "127.0.0.1:9090".into(),
        host: "prometheus".into(),
        path: "/base/?tenant=a".into(),
        headers: vec![(http::header::AUTHORIZATION, HeaderValue::from_static("Bearer x"))],
        timeout: Duration::from_secs(1),
    };
    let case = Case {
        service: "shop".into(),
        version: "v2+1".into(),
        share: 5.0,
        since: Timestamp(0),
        window_ms: 37_900,
        evidence: Evidence::default(),
    };
    let request = query_of(&endpoint, "f{s=\"{service}\",v=\"{version}\"}[{window}]", &case).unwrap();
    assert_eq!(request.uri(), "/base/api/v1/query?tenant=a&query=f%7Bs%3D%22shop%22%2Cv%3D%22v2%2B1%22%7D%5B37s%5D");
    assert_eq!(
        (&request.headers()["authorization"], &request.headers()["host"]),
        (&HeaderValue::from_static("Bearer x"), &HeaderValue::from_static("prometheus"))
    );
}

fn seat(said: Option<Finding>, unavailable: Unavailable) -> Seat {
    let endpoint = Endpoint {
        address: "127.0.0.1:1".into(),
        host: "judge".into(),
        path: "/".into(),
        headers: Vec::new(),
        timeout: Duration::from_secs(1),
    };
    let judge = Judge { question: Question::Webhook, endpoint, interval: Duration::from_secs(1), unavailable };
    Seat { judge, next: Instant::now(), asking: None, answer: Rc::default(), said }
}

#[test]
fn the_worst_opinion_counts_and_nothing_passes_before_all_of_them_let_it() {
    let weigh = |seats: Vec<Seat>, verdict: Verdict| Judges { seats, news: false }.weigh(verdict);
    let says = |finding: Finding| seat(Some(finding), Unavailable::Hold);
    let pass = || says(Finding::Pass(String::new()));
    assert_eq!(weigh(vec![], Verdict::Pass), Verdict::Pass);
    assert_eq!(weigh(vec![pass(), pass()], Verdict::Pass), Verdict::Pass);
    assert_eq!(weigh(vec![pass()], Verdict::TooFew), Verdict::TooFew);
    assert!(matches!(weigh(vec![pass(), seat(None, Unavailable::Ignore)], Verdict::Pass), Verdict::Hold(_)));
    assert!(matches!(weigh(vec![pass(), says(Finding::Hold("x".into()))], Verdict::TooFew), Verdict::Hold(_)));
    let gone = || Some(Finding::Unavailable("connection refused".into()));
    assert_eq!(
        weigh(vec![seat(gone(), Unavailable::Hold)], Verdict::Pass),
        Verdict::Hold("the webhook at judge cannot be asked: connection refused".into())
    );
    assert_eq!(weigh(vec![seat(gone(), Unavailable::Ignore)], Verdict::Pass), Verdict::Pass);
    let fails = weigh(vec![seat(None, Unavailable::Hold), says(Finding::Fail("orders fall".into()))], Verdict::Pass);
    assert_eq!(fails, Verdict::Fail("the webhook at judge does not accept it: orders fall".into()));
    assert_eq!(weigh(vec![pass()], Verdict::Fail("ours".into())), Verdict::Fail("ours".into()));
}
