//! The deploy scripts in `docs/examples`: each deploys two versions, and one that is refused. In the places of systemd and of
//! Docker Compose stand scripts that start toy services; what is tried is what ours ask of them, and when. `tests/machine` tries them
//! with systemd and a container engine themselves.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use crate::commands::Stage;
use crate::ports::{Ports, row};
use crate::root;

/// Ends what a test checks by exit code; each line of output in `said` is a fact.
const FACTS: &str = r#"
fact() { echo "$*" >>said; }
# A process may need a moment.
comes() { for _ in $(seq 200); do [ "$(alive "$1")" = up ] && break; sleep 0.05; done; alive "$1"; }
alive() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null && echo up || echo down; }
version() { curl -s -H 'Host: shop.example.com' "http://127.0.0.1:$HTTP/" | grep -o '"version":"[^"]*"'; }
"#;

/// What a stand-in does for `stop NAME`, in the place of `ENDS`: it returns when the process is gone, as those it stands for do.
const ENDS: &str = r#"[ -e "$1.pid" ] && pid=$(cat "$1.pid") && kill "$pid" 2>/dev/null &&
  for _ in $(seq 500); do grep -q '^State:.[^ZX]' "/proc/$pid/status" 2>/dev/null || break; sleep 0.02; done; rm -f "$1.pid""#;

/// Runs a script on a stage with a proxy that has no healthy node yet, and gives the facts that it noted.
fn facts(tools: &[(&str, &str)], script: &str) -> Vec<String> {
    let ports = Ports::free();
    let folder = tempfile::Builder::new().prefix("sd").tempdir().unwrap();
    let folder = folder.path();
    let stage = Stage::new(folder, &ports);
    fs::create_dir(folder.join("bin")).unwrap();
    for (name, text) in tools {
        let path = folder.join("bin").join(name);
        fs::write(&path, ports.replace(&text.replace("ENDS", ENDS))).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let text = fs::read_to_string(folder.join("config/versions.toml")).unwrap();
    // Nobody listens there. Every deploy is quick, also the one that is refused.
    let text = text.replace("v1\"", "v0\"").replace("v1 =", "v0 =").replace(&ports.of(5001).to_string(), "1");
    let quick = "\n[service.shop.rollout]\ndeadline = \"4s\"\n\n[service.shop.drain]\nspread = \"1s\"\n";
    fs::write(folder.join("sluice.toml"), text + quick).unwrap();
    let opening = stage.opening(false);
    let all = format!(
        "{opening}export HTTP={http} SLUICE_SOCKET=$PWD/s.sock SLUICE_STATE_DIR=$PWD/state SLUICE_CONFIG=$PWD/sluice.toml\n\
         {FACTS}\nexec 2>said.log >&2; set -x\nsluice run 2>toy.log &\n\
         for i in $(seq 300); do sluice status >/dev/null 2>&1 && break; sleep 0.05; done\n{script}\nfact end\n",
        http = ports.of(8080),
        script = ports.replace(script),
    );
    let ended = stage.run(&all);
    let read = |name: &str| fs::read_to_string(Path::new(folder).join(name)).unwrap_or_default();
    let facts: Vec<String> = read("said").lines().map(str::to_owned).collect();
    println!("{ended}\n{}\n{}", read("said.log"), read("toy.log"));
    facts
}

#[test]
fn plain_processes_are_deployed_and_stopped_when_they_may_be() {
    let (first, _kept) = row(6);
    let script = r#"
deploy=docs/examples/deploy-processes.sh
$deploy shop v1 sh -c 'exec sluice demo-origin --version "$VERSION" --port "$PORT"'; fact "v1: $?"; fact "$(version)"
cp run/shop/v1/*.pid .
$deploy shop v2 sh -c 'exec sluice demo-origin --version "$VERSION" --port "$PORT"'; fact "v2: $?"; fact "$(version)"
for file in *.pid; do kill -0 "$(cat $file)" 2>/dev/null && fact "an old one runs"; done
fact "$(ls run/shop/v1/*.pid 2>/dev/null | wc -l) of v1, $(ls run/shop/v2/*.pid | wc -l) of v2"
$deploy shop v3 sh -c 'exec sluice demo-origin --unhealthy --version "$VERSION" --port "$PORT"'; fact "v3: $?"; fact "$(version)"
fact "$(ls run/shop/v3/*.pid 2>/dev/null | wc -l) of v3"
"#;
    let expected = [
        "v1: 0",
        "\"version\":\"v1\"",
        "v2: 0",
        "\"version\":\"v2\"",
        "0 of v1, 2 of v2",
        "v3: 3",
        "\"version\":\"v2\"",
        "0 of v3",
        "end",
    ];
    assert_eq!(facts(&[], &format!("export FIRST_PORT={first}\n{script}")), expected);
}

#[test]
fn systemd_units_are_started_enabled_and_stopped_in_that_order() {
    // Starts what the unit's file says, where it says; its folder of releases is this run's.
    let systemctl = r#"#!/usr/bin/env bash
verb=$1; shift
echo "$verb $*" >>units.log
stop() { ENDS; }
for unit; do
  of() { sed "s/%i/${unit#shop@}/g; s#/srv/shop#$ROOT#g" docs/examples/shop@.service | sed -n "s/^$1=//p"; }
  case $verb:$unit in
    *:--*) ;;
    is-active:*) [ -e "$unit.pid" ]; exit ;;
    restart:*) stop "$unit"
      env --chdir="$(of WorkingDirectory)" "$(of Environment)" "$(of ExecStart)" >/dev/null 2>&1 &
      echo $! >"$unit.pid" ;;
    stop:* | disable:*) stop "$unit" ;;
  esac
done
exit 0
"#;
    let script = r#"
export ROOT=$PWD/srv
for v in v1 v2 v3 v4; do
  mkdir -p srv/releases/$v; [ $v = v3 ] && bad=--unhealthy || bad=
  printf '#!/bin/sh\nexec sluice demo-origin %s --version %s --port "$PORT"\n' "$bad" $v >srv/releases/$v/server
  chmod +x srv/releases/$v/server
done
docs/examples/deploy-systemd.sh v1; fact "v1: $?"; fact "$(version) $(alive 5011) $(alive 5001)"
docs/examples/deploy-systemd.sh v2; fact "v2: $?"; fact "$(version) $(alive 5011) $(alive 5001)"
docs/examples/deploy-systemd.sh v3; fact "v3: $?"; fact "$(version) $(alive 5011) $(alive 5001)"
docs/examples/deploy-systemd.sh v9; fact "v9: $?"
TIMEOUT=1ms docs/examples/deploy-systemd.sh v4; fact "v4: $?"
docs/examples/deploy-systemd.sh v1; fact "v1: $?"; fact "$(alive 5011) $(comes 5001)"
fact "$(cut -d' ' -f1 units.log | tr '\n' ' ')"
"#;
    let expected = [
        "v1: 0",
        "\"version\":\"v1\" down up",
        "v2: 0",
        "\"version\":\"v2\" up down",
        "v3: 3",
        "\"version\":\"v2\" up down",
        "v9: 2",
        // Nobody knows how that ends: what may serve runs, starts with the machine, and is not deployed over.
        "v4: 7",
        "v1: 2",
        "up up",
        "is-active reset-failed restart enable disable is-active is-active reset-failed restart enable disable \
         is-active reset-failed restart stop is-active reset-failed restart enable is-active is-active ",
        "end",
    ];
    assert_eq!(facts(&[("systemctl", systemctl)], script), expected);
}

#[test]
fn units_are_what_systemd_understands() {
    let folder = tempfile::Builder::new().prefix("sd").tempdir().unwrap();
    let units = [("config/sluice.service", "sluice.service"), ("docs/examples/shop@.service", "shop@5001.service")];
    let mut command = Command::new("systemd-analyze");
    command.arg("verify");
    for (unit, name) in units {
        // What a unit starts is not here; that is all that may be wrong.
        let text = fs::read_to_string(root().join(unit)).unwrap();
        let lines = text.lines().map(|line| if line.starts_with("ExecStart=") { "ExecStart=/bin/true" } else { line });
        let path = folder.path().join(name);
        fs::write(&path, lines.collect::<Vec<_>>().join("\n")).unwrap();
        command.arg(path);
    }
    let Ok(output) = command.output() else {
        println!("systemd-analyze is not here: the units are not looked at");
        return;
    };
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && !units.iter().any(|(_, name)| said.contains(name)), "{said}");
}

#[test]
fn containers_change_colour() {
    let docker = r#"#!/usr/bin/env bash
[ "$1" = compose ] || exit 64
verb=$2; shift 2
for last; do :; done
case $verb in
  ps) cat "$last.pid" 2>/dev/null ;;
  up) case $last in shop-blue) port=5001 tag=$BLUE_TAG ;; shop-green) port=5011 tag=$GREEN_TAG ;; esac
    bad=; [ "$tag" = v3 ] && bad=--unhealthy
    sluice demo-origin $bad --version "$tag" --port "$port" >/dev/null 2>&1 &
    echo $! >"$last.pid" ;;
  stop) set -- "$last"; ENDS ;;
  exec) shift 2; exec "$@" ;;
  *) exit 64 ;;
esac
exit 0
"#;
    let script = r#"
export BLUE_NODE=127.0.0.1:5001 GREEN_NODE=127.0.0.1:5011
for v in v1 v2 v3; do
  docs/examples/deploy-compose.sh $v; fact "$v: $?"; fact "$(version) $(alive 5001) $(alive 5011)"
done
TIMEOUT=1ms docs/examples/deploy-compose.sh v4; fact "v4: $?"
docs/examples/deploy-compose.sh v1; fact "v1: $?"; fact "$(comes 5001) $(alive 5011)"
"#;
    let expected = [
        "v1: 0",
        "\"version\":\"v1\" up down",
        "v2: 0",
        "\"version\":\"v2\" down up",
        "v3: 3",
        "\"version\":\"v2\" down up",
        "v4: 7",
        "v1: 2",
        "up up",
        "end",
    ];
    assert_eq!(facts(&[("docker", docker)], script), expected);
}

/// What the image is built from: `COPY` of the Dockerfile, into a folder that holds nothing else.
#[test]
fn an_image_has_all_that_the_sources_need() {
    fn includes(folder: &Path, found: &mut Vec<String>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                includes(&path, found);
                continue;
            }
            for part in fs::read_to_string(&path).unwrap_or_default().split("include_str!(\"").skip(1) {
                let target = path.parent().unwrap().join(part.split('"').next().unwrap()).canonicalize().unwrap();
                let top = target.strip_prefix(root().canonicalize().unwrap()).unwrap().iter().next().unwrap();
                found.push(top.to_str().unwrap().to_owned());
            }
        }
    }
    let mut needed = vec!["Cargo.toml".to_owned(), "Cargo.lock".to_owned(), "src".to_owned()];
    includes(&root().join("src"), &mut needed);
    let image = fs::read_to_string(root().join("Dockerfile")).unwrap();
    let copied: Vec<&str> = image
        .lines()
        .filter_map(|line| line.strip_prefix("COPY ").filter(|line| !line.starts_with("--")))
        .flat_map(str::split_whitespace)
        .collect();
    let missing: Vec<&String> = needed.iter().filter(|needed| !copied.contains(&needed.as_str())).collect();
    assert!(missing.is_empty(), "the Dockerfile does not copy {missing:?}");
}
