use super::*;
use proptest::prelude::*;

use crate::cli::differences::differences;

const NAMED: &str = r#"# the front door
[service.shop]
match   = ["shop.example.com"]   # one host
release = "v1"                    # what serves

[service.shop.versions]
# the first one
v1 = ["10.0.0.5:5001", "10.0.0.6:5001"] # old

[service.shop.health]
path = "/healthz"
"#;

fn nodes(nodes: &[&str]) -> Vec<String> {
    nodes.iter().map(|node| (*node).to_owned()).collect()
}

fn deploy(text: &str) -> String {
    set_release(text, "shop", Some("v2"), &nodes(&["a:1", "b:2"])).unwrap()
}

#[test]
fn a_new_version_goes_behind_the_last_one_and_nothing_else_changes() {
    let after = deploy(NAMED);
    let expected =
        NAMED.replace("release = \"v1\"", "release = \"v2\"").replace(" # old\n", " # old\nv2 = [\"a:1\", \"b:2\"]\n");
    assert_eq!(after, expected);
    assert_eq!(
        differences(NAMED, &after),
        [
            "-release = \"v1\"                    # what serves",
            "+release = \"v2\"                    # what serves",
            "+v2 = [\"a:1\", \"b:2\"]",
        ]
    );
}

#[test]
fn a_node_that_stays_keeps_its_weight() {
    let heavy = "{ address = \"a:1\", weight = 3 }";
    for (before, after) in [
        (format!("[{heavy}, \"b:1\"]"), format!("[{heavy}, \"c:1\"]")),
        (format!("[\n  {heavy}, # big\n  \"b:1\",\n]"), format!("[\n  {heavy}, # big\n  \"c:1\",\n]")),
    ] {
        let file = |list: &str| format!("[service.shop]\nnodes = {list} # c\n");
        let edited = set_release(&file(&before), "shop", None, &nodes(&["a:1", "c:1"])).unwrap();
        assert_eq!(edited, file(&after));
        let same = set_release(&file(&before), "shop", None, &nodes(&["a:1", "b:1"])).unwrap();
        assert_eq!(same, file(&before));
        assert_eq!(read(&file(&before), "shop").unwrap().nodes, Some(nodes(&["a:1", "b:1"])));
    }
}

#[test]
fn every_layout_of_versions_is_understood() {
    for (before, after) in [
        (
            "[service.shop]\nrelease = 'v1'\nversions = { v1 = [\"x:1\"] } # c\n",
            "[service.shop]\nrelease = \"v2\"\nversions = { v1 = [\"x:1\"], v2 = [\"a:1\", \"b:2\"] } # c\n",
        ),
        (
            "[service.shop]\nrelease = \"v1\"\nversions = {}\n",
            "[service.shop]\nrelease = \"v2\"\nversions = { v2 = [\"a:1\", \"b:2\"] }\n",
        ),
        (
            "[service.shop]\nversions.v1 = [\"x:1\"] # c\nrelease = \"v1\"\n",
            "[service.shop]\nversions.v1 = [\"x:1\"] # c\nversions.v2 = [\"a:1\", \"b:2\"]\nrelease = \"v2\"\n",
        ),
        (
            "[service]\n  shop.release = \"v1\"\n  shop . versions.v1 = [\"x:1\"]",
            "[service]\n  shop.release = \"v2\"\n  shop . versions.v1 = [\"x:1\"]\n  shop . versions.v2 = [\"a:1\", \"b:2\"]\n",
        ),
        (
            "service.shop = { release = \"v1\", versions = { v1 = [\"x:1\"] } }\n",
            "service.shop = { release = \"v2\", versions = { v1 = [\"x:1\"], v2 = [\"a:1\", \"b:2\"] } }\n",
        ),
        (
            "[service]\nshop = { versions.v1 = [\"x:1\"], release = \"v1\" }\n",
            "[service]\nshop = { versions.v1 = [\"x:1\"], versions.v2 = [\"a:1\", \"b:2\"], release = \"v2\" }\n",
        ),
        (
            "[service.shop]\nrelease = \"v1\"\n[service.shop.versions] # none yet\n\n[service.b]\n",
            "[service.shop]\nrelease = \"v2\"\n[service.shop.versions] # none yet\nv2 = [\"a:1\", \"b:2\"]\n\n[service.b]\n",
        ),
        (
            "[service.shop.versions]\n\tv1 = [\n\t\t\"x:1\", # rack 1\n\t] # c\n[service.shop]\nrelease = \"v1\"\n",
            "[service.shop.versions]\n\tv1 = [\n\t\t\"x:1\", # rack 1\n\t] # c\n\tv2 = [\"a:1\", \"b:2\"]\n[service.shop]\nrelease = \"v2\"\n",
        ),
        (
            "[service.\"shop\"]\r\nrelease = \"v1\"\r\n[service.shop.versions]\r\nv1 = [\"x:1\"]\r\n",
            "[service.\"shop\"]\r\nrelease = \"v2\"\r\n[service.shop.versions]\r\nv1 = [\"x:1\"]\r\nv2 = [\"a:1\", \"b:2\"]\r\n",
        ),
        (
            "\u{feff}[service.shop]\nrelease = \"v1\"\nversions = {v1=[\"ü:1\"]}\n",
            "\u{feff}[service.shop]\nrelease = \"v2\"\nversions = {v1=[\"ü:1\"], v2 = [\"a:1\", \"b:2\"]}\n",
        ),
        (
            "[service.shop]\nrelease = \"v1\"\n[service.shop.versions]\nv2 = [ \"old:1\" ] # c\nv1 = [\"x:1\"]\n",
            "[service.shop]\nrelease = \"v2\"\n[service.shop.versions]\nv2 = [\"a:1\", \"b:2\"] # c\nv1 = [\"x:1\"]\n",
        ),
    ] {
        assert_eq!(set_release(before, "shop", Some("v2"), &nodes(&["a:1", "b:2"])).as_deref(), Ok(after), "{before}");
    }
}

#[test]
fn a_release_that_was_left_out_is_written_behind_its_neighbours() {
    for (before, after) in [
        (
            "[service.shop]\n  match = [\n  '*', # all\n  ] # c\n\n  [service.shop.versions]\n  v1 = ['x:1']\n",
            "[service.shop]\n  match = [\n  '*', # all\n  ] # c\n  release = \"v2\"\n\n  [service.shop.versions]\n  v1 = ['x:1']\n  v2 = [\"a:1\", \"b:2\"]\n",
        ),
        (
            "[service]\nshop.match = '*'\nshop.versions.v1 = ['x:1']\n",
            "[service]\nshop.match = '*'\nshop.release = \"v2\"\nshop.versions.v1 = ['x:1']\nshop.versions.v2 = [\"a:1\", \"b:2\"]\n",
        ),
        (
            "service = { shop = { match = '*', versions.v1 = ['x:1'] } }\n",
            "service = { shop = { match = '*', release = \"v2\", versions.v1 = ['x:1'], versions.v2 = [\"a:1\", \"b:2\"] } }\n",
        ),
    ] {
        assert_eq!(deploy(before), after);
    }
}

#[test]
fn a_version_that_is_there_needs_no_nodes_and_doing_it_again_changes_nothing() {
    let after = deploy(NAMED);
    assert_eq!(deploy(&after), after);
    let back = set_release(&after, "shop", Some("v1"), &[]).unwrap();
    assert_eq!(back, after.replace("release = \"v2\"", "release = \"v1\""));
}

#[test]
fn names_are_quoted_where_they_must_be() {
    let after = set_release(NAMED, "shop", Some("1.0+b \"x\""), &nodes(&["[::1]:80"])).unwrap();
    let written = read(&after, "shop").unwrap();
    assert_eq!(written.release.as_deref(), Some("1.0+b \"x\""));
    assert_eq!(written.versions.len(), 2);
}

#[test]
fn the_short_form_keeps_its_shape() {
    let before = "[service.shop]\nnodes = [\n  \"x:1\",\n  \"y:1\",\n] # c\n";
    let after = set_release(before, "shop", None, &nodes(&["a:1"])).unwrap();
    assert_eq!(after, "[service.shop]\nnodes = [\n  \"a:1\",\n] # c\n");
    let before = "[service.shop]\nnodes = [\n  'x:1' , # rack 1\n  'y:1', 'w:1',\n  \"z:1\" # rack 2\n]\n";
    let after = set_release(before, "shop", None, &nodes(&["a:1", "z:1", "x:1", "y:1"])).unwrap();
    let expected = "[service.shop]\nnodes = [\n  \"a:1\",\n  \"z:1\", # rack 2\n  'x:1' , # rack 1\n  \"y:1\",\n]\n";
    assert_eq!(after, expected, "nodes that stay keep their lines");
    let before = "[service.shop]\nnodes = [ 'x:1' ] # c\n";
    let after = set_release(before, "shop", None, &nodes(&["a:1"])).unwrap();
    assert_eq!(after, "[service.shop]\nnodes = [\"a:1\"] # c\n");
}

#[test]
fn one_service_is_taken_back_if_nobody_else_changed_it() {
    let undone = |before: &str, after: &str, now: &str| {
        let (before, after) = (read(before, "shop").unwrap(), read(after, "shop").unwrap());
        undo(now, "shop", &before, &after).unwrap()
    };
    let after = deploy(NAMED);
    let now = format!("{after}\n[service.blog]\nnodes = ['b:1']\n");
    assert_eq!(undone(NAMED, &after, &now), now.replace("release = \"v2\"", "release = \"v1\""));
    let theirs = after.replace("release = \"v2\"", "release = \"v3\"");
    assert_eq!(undone(NAMED, &after, &theirs), theirs);

    // New nodes under the name that serves.
    let after = set_release(NAMED, "shop", Some("v1"), &nodes(&["a:1"])).unwrap();
    let back = undone(NAMED, &after, &after);
    assert_eq!(read(&back, "shop"), read(NAMED, "shop"));

    let short = "[service.shop]\nnodes = [\"x:1\"]\n";
    let after = set_release(short, "shop", None, &nodes(&["a:1"])).unwrap();
    assert_eq!(undone(short, &after, &after), short);
}

#[test]
fn what_cannot_be_done_is_said() {
    let short = "[service.shop]\nnodes = [\"x:1\"]\n";
    let error =
        |text, version, list: &[&str]| set_release(text, "shop", version, &nodes(list)).unwrap_err().to_string();
    assert!(error(short, Some("v2"), &["a:1"]).contains("[service.shop.versions]"));
    assert!(error(short, None, &[]).contains("--node"));
    assert!(error(NAMED, None, &["a:1"]).contains("--version"));
    assert!(error(NAMED, Some("v9"), &[]).contains("`v9` of service `shop` is not in the file"));
    assert!(error(NAMED, Some("-"), &["a:1"]).contains("cannot be the name"));
    assert!(error("[service.blog]\n", Some("v2"), &["a:1"]).contains("it defines blog"));
    assert!(error("x = [", Some("v2"), &["a:1"]).contains("not valid TOML"));
    assert!(error("[service.shop]\nrelease = \"v1\"\n", Some("v2"), &["a:1"]).contains("`versions` is missing"));
    assert!(error("[service.shop]\nrelease = \"v1\"\nversions = 3\n", Some("v2"), &["a:1"]).contains("not a table"));
}

/// Lines that may stand around the service, at the top level of a file.
fn noise() -> impl Strategy<Value = String> {
    let line = prop_oneof![
        Just(String::new()),
        "[ \t]{0,3}#[ -~äö€]{0,20}",
        (0u32..1000).prop_map(|n| format!("[service.other{n}]\nnodes=['a:{n}']  # x")),
        (0u32..1000).prop_map(|n| format!("[extra.t{n}]\n  k   =   {n} \n s = '''\n multi [service.shop]\n'''")),
        (0u32..1000).prop_map(|n| format!("[[list]]\nn = {n}")),
    ];
    // A name may be there only once; the first of two wins.
    prop::collection::vec(line, 0..6).prop_map(|lines| {
        let mut seen = std::collections::HashSet::new();
        let kept = lines
            .into_iter()
            .filter(|line| !line.starts_with("[s") && !line.starts_with("[e") || seen.insert(line.clone()));
        kept.map(|line| line + "\n").collect()
    })
}

proptest! {
    #[test]
    fn text_around_the_edit_never_changes(
        before in noise(), between in noise(), after in noise(), crlf: bool,
        version in "[a-zA-Z0-9._+ -]{2,8}", node in "[a-z0-9.]{1,12}:[0-9]{1,5}",
    ) {
        let fix = |text: String| if crlf { text.replace('\n', "\r\n") } else { text };
        let start = fix(format!("{before}[service.shop]\nmatch = ['*']\nrelease = "));
        let middle = fix(format!(" # why\n{between}[service.shop.versions]\n'v 1' = ['x:1'] # y\n"));
        let end = fix(after);
        let text = format!("{start}'v 1'{middle}{end}");
        prop_assume!(parse(&text).is_ok());
        let edited = set_release(&text, "shop", Some(&version), std::slice::from_ref(&node)).unwrap();
        let rest = edited.strip_prefix(&start).unwrap().strip_suffix(&end).unwrap();
        let (_release, added) = rest.split_once(&middle).unwrap();
        prop_assert_eq!(added.lines().count(), 1, "{}", added);
        let written = read(&edited, "shop").unwrap();
        prop_assert_eq!(written.release.as_deref(), Some(version.as_str()));
        prop_assert_eq!(written.versions.last().map(|(_, nodes)| nodes.clone()), Some(vec![node]));
    }

    #[test]
    fn no_text_makes_it_panic(text in "(\\[service\\.shop\\]|release|versions|nodes|=|\\[|\\]|\\{|\\}|\"|'|,|\\.|#|\n| |v1|x){0,30}") {
        let _ = set_release(&text, "shop", Some("v2"), &nodes(&["a:1"]));
        let _ = set_release(&text, "shop", None, &nodes(&["a:1"]));
    }
}
