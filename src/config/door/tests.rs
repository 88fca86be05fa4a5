//! What is taken and what is refused of a service's policies.

use std::path::Path;

use super::super::{Door, load_str};
use super::*;

const BASE: &str =
    "[[listener]]\nname = \"a\"\nbind = \"127.0.0.1:0\"\n[service.a]\nmatch = \"*\"\nnodes = [\"a:1\"]\n";

fn door(text: &str) -> Door {
    let loaded = load_str(&format!("{BASE}{text}"), Path::new("s"));
    assert_eq!(loaded.problems, [], "{text}");
    Door::clone(loaded.config.unwrap().services["a"].door.as_ref().expect("a door"))
}

fn problems(text: &str) -> Vec<String> {
    load_str(&format!("{BASE}{text}"), Path::new("s")).problems.into_iter().map(|problem| problem.message).collect()
}

#[test]
fn a_service_without_policies_has_no_door() {
    let config = load_str(BASE, Path::new("s")).config.unwrap();
    assert!(config.services["a"].door.is_none());
    let empty = load_str(&format!("{BASE}[service.a.limits]\n[service.a.request_headers]\n"), Path::new("s"));
    assert!(empty.config.unwrap().services["a"].door.is_none());
}

#[test]
fn the_rest_of_a_path_is_what_the_star_stood_for() {
    for (from, path, rest) in [
        ("/old", "/old", Some("")),
        ("/old", "/old/", None),
        ("/old", "/older", None),
        ("/old/*", "/old", Some("")),
        ("/old/*", "/old/", Some("")),
        ("/old/*", "/old/a/b", Some("a/b")),
        ("/old/*", "/older", None),
        ("/*", "/a", Some("a")),
        ("/*", "/", Some("")),
        ("/old/", "/old/", Some("")),
        ("/old/", "/old", None),
    ] {
        assert_eq!(Pattern::parse(from).unwrap().rest(path), rest, "{from} {path}");
    }
}

#[test]
fn access_is_by_network_and_deny_goes_first() {
    let door = door("access = { allow = [\"10.0.0.0/8\", \"2001:db8::/32\"], deny = [\"10.6.0.0/16\"] }");
    let access = door.access.unwrap();
    for (client, admitted) in
        [("10.1.1.1", true), ("10.6.1.1", false), ("11.1.1.1", false), ("2001:db8::1", true), ("::1", false)]
    {
        assert_eq!(access.admits(client.parse().unwrap()), admitted, "{client}");
    }
}

#[test]
fn networks_of_ipv4_are_the_same_however_they_are_written() {
    let door =
        door("access = { allow = [\"::ffff:10.0.0.0/104\"], deny = [\"::ffff:10.6.0.7\", \"::ffff:10.7.0.0/112\"] }");
    let access = door.access.unwrap();
    for (client, admitted) in
        [("10.1.1.1", true), ("10.6.0.7", false), ("10.6.0.8", true), ("10.7.9.9", false), ("11.0.0.1", false)]
    {
        assert_eq!(access.admits(client.parse().unwrap()), admitted, "{client}");
    }
}

#[test]
fn header_rules_know_placeholders_and_leave_other_braces_alone() {
    let door = door(
        "[service.a.response_headers]\nremove = [\"Server\"]\nset.\"Report-To\" = '{\"group\":{\"a\":1}}'\nadd.x-id = \"{request_id}/{client}\"\n",
    );
    let rules = door.response_headers;
    assert_eq!(rules.remove, ["server"]);
    assert_eq!(rules.set[0].value, FieldValue::Fixed("{\"group\":{\"a\":1}}".parse().unwrap()));
    let parts =
        [Part::Placeholder(Placeholder::RequestId), Part::Text("/".into()), Part::Placeholder(Placeholder::Client)];
    assert_eq!(rules.add[0].value, FieldValue::Made(parts.into()));
}

#[test]
fn nothing_that_frames_a_message_can_be_changed() {
    for name in
        ["Connection", "keep-alive", "Transfer-Encoding", "CONTENT-LENGTH", "te", "trailer", "upgrade", "expect"]
    {
        for side in ["request_headers", "response_headers"] {
            let set = problems(&format!("{side}.set.\"{name}\" = \"x\""));
            assert!(set.len() == 1 && set[0].contains("framed"), "{set:?}");
            assert_eq!(problems(&format!("{side}.remove = [\"{name}\"]")).len(), 1);
        }
        assert_eq!(problems(&format!("forward_auth = {{ address = \"a:1\", copy = [\"{name}\"] }}")).len(), 1);
    }
    assert_eq!(problems("request_headers.remove = [\"Host\"]").len(), 1);
    assert_eq!(problems("request_headers.set.Host = \"a b\"").len(), 1);
    assert_eq!(problems("response_headers.remove = [\"X-Sluice-Error\"]").len(), 1);
    assert_eq!(problems("response_headers.set.X-A = \"a\\nb\"").len(), 1);
    assert_eq!(problems("response_headers.set.X-A = \"{cleint}\"").len(), 1);
}

#[test]
fn what_a_star_stood_for_never_becomes_a_host() {
    for to in ["https://*", "https://*.example.com/", "https://example.com*", "//*", "/*x", "ftp://a/*", "*", "a"] {
        let found = problems(&format!("redirect = [{{ from = \"/o/*\", to = \"{to}\" }}]"));
        assert_eq!(found.len(), 1, "{to}: {found:?}");
    }
    for to in ["/*", "/new/*", "https://example.com/*", "https://example.com/?q=*", "http://[::1]:80/x"] {
        assert_eq!(door(&format!("redirect = [{{ from = \"/o/*\", to = \"{to}\" }}]")).redirects.len(), 1);
    }
}

#[test]
fn mistakes_are_told_once_each() {
    let hash = "$2y$05$0123456789012345678901Abcdefghijklmnopqrstuvwxyz01234";
    for (text, count) in [
        ("access = { allow = [] }".to_owned(), 1),
        ("access = { allow = [\"10.0.0.0/33\", \"x\"] }".to_owned(), 2),
        ("rate = [{ per = \"1s\" }]".to_owned(), 1),
        ("rate = [{ requests = 1, by = \"cookie a\", path = \"x\" }]".to_owned(), 2),
        ("rate = [{ requests = 1, path = \"/%61\" }]".to_owned(), 1),
        ("basic_auth = {}".to_owned(), 1),
        ("basic_auth = { users = [\"anna:secret\"] }".to_owned(), 1),
        (format!("basic_auth = {{ users = [\"anna:{hash}\", \"anna:{hash}\"] }}"), 1),
        (format!("basic_auth = {{ users = [\"anna:{}\"], realm = 'a\"b' }}", hash.replace("05", "20")), 2),
        ("forward_auth = { path = \"x\" }".to_owned(), 2),
        ("canonical_host = \"a/b\"".to_owned(), 1),
        ("canonical_host = \"*.example.com\"".to_owned(), 1),
        ("canonical_host = \"example.com:99999\"".to_owned(), 1),
        ("rewrite = [{ from = \"/a\", to = \"/b#c\" }, { from = \"/b/*\", to = \"/c?d/*\" }]".to_owned(), 2),
        ("redirect = [{ from = \"/a\", to = \"/a?b\" }, { from = \"/*\", to = \"/*\" }]".to_owned(), 2),
        ("redirect = [{ from = \"/a\", to = \"/b/*\" }, { from = \"/a\", to = \"/b\", status = 305 }]".to_owned(), 2),
        ("rewrite = [{ from = \"/a/../b\", to = \"/b\" }, { to = \"b\" }]".to_owned(), 2),
        ("errors = { texts = { \"200\" = \"a\" }, intercept = [\"6xx\"] }".to_owned(), 2),
        ("limits = { body = \"0B\", requests = 0 }".to_owned(), 2),
    ] {
        let found = problems(&text);
        assert_eq!(found.len(), count, "{text}: {found:#?}");
        assert!(!found.iter().any(|message| message.contains("secret")), "a password is not quoted");
    }
}

#[test]
fn the_narrowest_page_counts() {
    let door = door("errors.texts = { \"5xx\" = \"any\", \"500-503\" = \"some\", \"503\" = \"<b>one</b>\" }");
    let errors = door.errors.unwrap();
    let page = |status| errors.page(status).map(|page| (&page.body[..], page.kind.to_str().unwrap()));
    assert_eq!(page(503), Some((&b"<b>one</b>"[..], "text/html; charset=utf-8")));
    assert_eq!(page(502), Some((&b"some"[..], "text/plain; charset=utf-8")));
    assert_eq!(page(504), Some((&b"any"[..], "text/plain; charset=utf-8")));
    assert_eq!(page(404), None);
}

#[test]
fn a_page_that_is_edited_is_an_edit_to_the_configuration() {
    let folder = tempfile::tempdir().unwrap();
    let main = folder.path().join("sluice.toml");
    let page = folder.path().join("down.html");
    let included = folder.path().join("b.toml");
    std::fs::write(&included, "[service.b]\nmatch = \"b\"\nnodes = [\"a:1\"]\nerrors.files.\"5xx\" = \"down.html\"\n")
        .unwrap();
    std::fs::write(&main, format!("include = [\"b.toml\"]\nerrors.files.\"404\" = \"gone.txt\"\n{BASE}")).unwrap();
    std::fs::write(&page, "<p>1</p>").unwrap();
    let missing = super::super::load(&main);
    assert!(missing.config.is_none());
    assert_eq!((missing.problems.len(), missing.problems[0].line), (1, 2));
    std::fs::write(folder.path().join("gone.txt"), "gone").unwrap();
    let first = super::super::load(&main);
    assert_eq!(first.problems, []);
    assert!(first.files.contains(&page), "{:?}", first.files);
    std::fs::write(&page, "<p>2</p>").unwrap();
    let second = super::super::load_again(&main, first.cache.clone());
    assert_ne!(first.digest, second.digest);
    let body = |loaded: &super::super::Loaded| {
        let config = loaded.config.as_ref().unwrap();
        config.services["b"].door.as_ref().unwrap().errors.as_ref().unwrap().page(500).unwrap().body.clone()
    };
    assert_eq!((&body(&first)[..], &body(&second)[..]), (&b"<p>1</p>"[..], &b"<p>2</p>"[..]));
    let again = super::super::load_again(&main, second.cache.clone());
    assert_eq!(second.digest, again.digest);
    assert_eq!(second.config, again.config, "nothing changed");
    // A file that is too large holds back its service alone.
    std::fs::write(&page, vec![b'x'; (1 << 20) + 1]).unwrap();
    let large = super::super::load_again(&main, again.cache);
    assert!(large.config.is_some() && large.held_back.contains(&included), "{:?}", large.problems);
}
