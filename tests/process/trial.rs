//! Users of a real canary: who sees which version, across steps, edits and a restart.

use std::io::Write as _;
use std::net::SocketAddr;

use sluicegate::cli::demo::Origin;

use super::support::{Answer, Client, LISTENER, QUICK, Site, eventually, list, origin};

fn canary(release: &str, old: &[Origin], new: &[Origin], more: &str) -> String {
    format!(
        "{LISTENER}[service.shop]\nmatch = \"*\"\nrelease = \"{release}\"\n{QUICK}{more}\
         [service.shop.rollout]\nstrategy = \"canary\"\nkeep = \"0s\"\nguard = {{ more_errors = \"off\" }}\n\
         steps = [{{ share = \"50%\", hold = \"manual\" }}]\n\
         [service.shop.versions]\nv1 = {}\nv2 = {}\n",
        list(old),
        list(new)
    )
}

fn ask(address: SocketAddr, field: &str) -> Answer {
    let mut client = Client::connect(address).expect("a connection");
    write!(client.0, "GET / HTTP/1.1\r\nHost: a\r\n{field}\r\n\r\n").expect("a request");
    client.answer().expect("an answer")
}

fn version(answer: &Answer) -> String {
    answer.header("x-version").expect("a version").to_owned()
}

#[test]
fn users_of_a_canary_stay_where_they_are_also_over_a_restart_and_an_edit_opens_a_preview() {
    let (old, new) = ([origin("v1")], [origin("v2")]);
    let cohort = "cohort = {}\n";
    let site = Site::new(&canary("v1", &old, &new, cohort));
    let proxy = site.start();
    proxy.settled("shop");
    assert!(ask(proxy.address(), "x: y").header("set-cookie").is_none(), "one version needs no cookie");
    site.write(&canary("v2", &old, &new, cohort));
    let half = |proxy: &super::support::Proxy| {
        let shop = proxy.service("shop")?;
        (shop.rollout?.trial?.share > 49.0).then_some(())
    };
    eventually("half of the users", || half(&proxy));
    let users: Vec<_> = (0..20)
        .map(|_| {
            let answer = ask(proxy.address(), "x: y");
            let cookie = answer.header("set-cookie").and_then(|set| set.split(';').next()).expect("a cookie");
            (cookie.to_owned(), version(&answer))
        })
        .collect();
    let on_new = users.iter().filter(|(_, version)| version == "v2").count();
    assert!((8..=12).contains(&on_new), "{on_new} of 20");
    let still = |address| {
        for (cookie, before) in &users {
            let answer = ask(address, &format!("Cookie: {cookie}"));
            assert_eq!((version(&answer), answer.header("set-cookie")), (before.clone(), None));
        }
    };
    still(proxy.address());
    proxy.kill();
    let proxy = site.start();
    eventually("the canary goes on", || half(&proxy));
    still(proxy.address());
    // An edit of a policy is no other rollout, and counts at once; so does one to the secret's file.
    std::fs::write(site.path("peek"), "0123456789abcdef\n").expect("a file");
    site.write(&canary("v2", &old, &new, &format!("{cohort}preview.secret_file = \"peek\"\n")));
    let (stayed, _) = users.iter().find(|(_, version)| version == "v1").expect("somebody on v1");
    let peek =
        |secret: &str| version(&ask(proxy.address(), &format!("Cookie: {stayed}\r\nX-Sluice-Preview: {secret}")));
    eventually("the preview opens", || (peek("0123456789abcdef") == "v2").then_some(()));
    assert_eq!(peek("0123456789abcdeg"), "v1");
    site.replace("peek", "another secret, no: spaces\n".replace(' ', "-").as_str());
    eventually("the new secret opens", || (peek("another-secret,-no:-spaces") == "v2").then_some(()));
    assert_eq!(peek("0123456789abcdef"), "v1", "and the old one does not");
    still(proxy.address());
}
