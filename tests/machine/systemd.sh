#!/usr/bin/env bash
# config/sluice.service, docs/examples/shop@.service and docs/examples/deploy-systemd.sh on a machine that systemd runs: installed as the
# unit and docs/deploying.md say, under load. `run` starts it on a machine of its own.
#
#   systemd.sh SLUICE           the whole trial, with that binary
#   systemd.sh --after-reboot   what must be so when that machine has started again
set -uo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cd "$here/../.."
. tests/machine/facts.sh
. tests/machine/load.sh
work=/root/trial url=http://127.0.0.1:8080
mkdir -p "$work"

serves() { curl -s --max-time 5 -H 'Host: shop.example.com' "$url/"; }
serves_now() { is "$(serves)" "$1"; }
state() { systemctl is-active "shop@$1"; }
starts() { systemctl is-enabled "shop@$1" 2>/dev/null; }
shop() { printf '%s' "$(state 5001) $(state 5002) $(state 5011) $(state 5012)"; }
pid() { systemctl show --property MainPID --value sluice; }
deploy() { docs/examples/deploy-systemd.sh "$1" >"$work/deploy.log" 2>&1; }
code() { local status=0; "$@" || status=$?; echo "$status"; }
is_another() { [ "$(pid)" != 0 ] && [ "$(pid)" != "$before" ]; }
known() { sluice history shop | grep -w "$1"; }
in_flight() { sluice status | grep -w '1 in flight'; }
slow_begins() {
  curl -s -o /dev/null -w '%{http_code} %{size_download}' -H 'Host: shop.example.com' "$url/slow" >"$work/slow" &
  slow=$!
  until_true 5 in_flight >/dev/null
}
slow_arrives() { until_true 10 not kill -0 "$slow" && is "$(cat "$work/slow")" "200 3000"; }

if [ "${1:-}" = --after-reboot ]; then
  echo "after the machine started again ($(systemctl --version | head -1))"
  fact 'sluice runs' until_true 30 systemctl is-active sluice
  fact 'it is ready' until_true 30 sluice status --ready
  fact 'the version of the last deploy that was done serves' until_true 30 serves_now v6
  fact 'only its instances run' is "$(shop)" "inactive inactive active active"
  fact 'history is there' known v6
  facts_end
  exit
fi

[ "$(cat /proc/1/comm)" = systemd ] && [ "$(id -u)" = 0 ] || { echo "systemd does not run this machine, or this is not root" >&2; exit 77; }
[ ! -e /etc/sluice ] || { echo "/etc/sluice is there: this trial wants a machine of its own" >&2; exit 77; }

echo "sluice.service ($(systemctl --version | head -1), $(uname -r))"
mkdir -p target/release
[ "$(realpath "$1")" = "$(realpath -m target/release/sluice)" ] || cp "$1" target/release/sluice
# Word for word what the unit's own comment says.
sed -n '1,/^$/s/^#   //p' config/sluice.service >"$work/install.sh"
fact 'it is installed as its comment says' bash -euxc ". $work/install.sh"
fact 'it is up, and ready' until_true 20 sluice status --ready
fact 'systemd finds nothing wrong with the unit' systemd-analyze verify /etc/systemd/system/sluice.service
fact 'it runs as its user' is "$(ps -o user= -p "$(pid)")" sluice
files() { awk '/Max open files/ { print $5 }' "/proc/$1/limits"; }
# No more than the machine itself has.
fact 'it has the descriptors that the unit gives' is "$(files "$(pid)")" "$(($(files 1) < 1048576 ? $(files 1) : 1048576))"
fact 'it may bind low ports, and nothing else' is "$(awk '/CapEff/ { print $2 }' "/proc/$(pid)/status")" 0000000000000400
fact 'a filter of system calls is on' is "$(awk '/^Seccomp:/ { print $2 }' "/proc/$(pid)/status")" 2
fact 'nobody else may see its state' is "$(stat -c '%U %a' /var/lib/sluice)" "sluice 750"
useradd --no-create-home --groups sluice deployer
useradd --no-create-home guest
fact 'who is in its group may use the verbs' runuser -u deployer -- sluice status
fact 'who is not may not' not runuser -u guest -- sluice status

echo "shop@.service and deploy-systemd.sh"
for version in v1 v2 v3 v4 v5 v6; do
  mkdir -p "/srv/shop/releases/$version"
  install -m 0755 tests/machine/shop "/srv/shop/releases/$version/server"
done
touch /srv/shop/releases/v3/sick
printf '#!/bin/sh\necho "no such database" >&2\nexit 1\n' >/srv/shop/releases/v4/server
cat >/etc/sluice/sluice.toml <<'EOF'
[[listener]]
name = "http"
bind = "127.0.0.1:8080"

[[listener]]
name = "https"
bind = "127.0.0.1:443"
tls  = { certificates = ["/etc/sluice/tls"] }

[log.access]
path = "/var/log/sluice/access.log"

[service.shop]
match   = "shop.example.com"
health  = { path = "/healthz" }
release = "v0"

[service.shop.versions]
v0 = ["127.0.0.1:1"]        # a placeholder

[service.shop.rollout]
deadline = "6s"
EOF
# What only the service's user may read, beside the configuration.
install -d -o sluice -g sluice -m 0750 /etc/sluice/tls
(cd /etc/sluice/tls && openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=shop.example.com \
  -addext subjectAltName=DNS:shop.example.com -keyout shop.key -out shop.crt 2>"$work/openssl.log" && chown sluice shop.key)
secure() { curl -s --max-time 5 --cacert /etc/sluice/tls/shop.crt --resolve shop.example.com:443:127.0.0.1 https://shop.example.com/; }
logged() { grep -q '"path":"/"' "/var/log/sluice/$1"; }
before=$(pid)
fact 'reload' systemctl reload sluice
fact 'the edited file counts, with TLS on a low port' until_true 5 secure
fact 'requests are in the access log' until_true 5 logged access.log
sed 's/sudo //' <(block docs/deploying.md '## systemd') >"$work/first.sh"
fact 'the first version is deployed as docs/deploying.md says' bash -euxc ". $work/first.sh"
fact 'it serves' is "$(serves) $(secure)" "v1 v1"
fact 'the access log is moved away' mv /var/log/sluice/access.log /var/log/sluice/access.log.1
fact 'as logrotate does it' systemctl kill --signal USR1 --kill-whom main sluice
serves >/dev/null
fact 'the log goes on in a new file' until_true 5 logged access.log
fact 'on its first set of ports' is "$(shop)" "active active inactive inactive"
fact 'which starts with the machine' is "$(starts 5001) $(starts 5002) $(starts 5011) $(starts 5012)" "enabled enabled disabled disabled"

load_start
until_true 20 test -s "$work/load/slow1"
fact 'a second version under load: done' is "$(code deploy v2)" 0
fact 'it serves' is "$(serves)" v2
fact 'the old instances are stopped' is "$(shop)" "inactive inactive active active"
fact 'and the machine would start the new ones' is "$(starts 5001) $(starts 5002) $(starts 5011) $(starts 5012)" "disabled disabled enabled enabled"
fact 'a version that is never healthy: exit code 3' is "$(code deploy v3)" 3
fact 'what served before serves' is "$(serves) $(shop)" "v2 inactive inactive active active"
fact 'a version that dies at once: exit code 3' is "$(code deploy v4)" 3
fact 'what served before serves' is "$(serves) $(shop)" "v2 failed failed active active"
fact 'a good one right after it: done' is "$(code deploy v5)" 0
fact 'it serves' is "$(serves) $(shop)" "v5 active active inactive inactive"
fact 'a release that is not there: exit code 2' is "$(code deploy v9)" 2
load_end
fact "no request failed in all of that: $ended" load_was_good
fact 'sluice is the process that it was' is "$(pid)" "$before"

echo "Sluice is started again"
slow_begins
fact 'restart' systemctl restart sluice
fact 'an answer that was under way arrived whole' slow_arrives
fact 'what served before serves' until_true 10 serves_now v5
printf 'strategy = "canary"\nsteps = [{ share = "50%%", hold = "6s" }]\nguard = { extend = "1s", too_few = "pass" }\n' >>/etc/sluice/sluice.toml
deploy v6 & deploying=$!
fact 'a canary begins' until_true 15 serves_now v6
before=$(pid)
fact 'sluice is killed in the middle of it' systemctl kill --signal KILL sluice
fact 'systemd starts it again' until_true 10 is_another
wait "$deploying"
fact 'the deploy script cannot know how it ends: exit code 1' is "$?" 1
fact 'so both sets run' is "$(shop)" "active active active active"
fact 'and start with the machine' is "$(starts 5001) $(starts 5011)" "enabled enabled"
fact 'it does not deploy over them: exit code 2' is "$(code deploy v2)" 2
fact 'Sluice is back' until_true 20 sluice status --ready
fact 'the rollout goes on, and ends well' sluice wait shop --version v6 --timeout 1m
fact 'the new version serves' serves_now v6
systemctl disable --quiet --now shop@5001 shop@5002
slow_begins
fact 'stop' systemctl stop sluice
fact 'an answer that was under way arrived whole' slow_arrives
fact 'it ended well' is "$(systemctl show --property Result,ExecMainStatus --value sluice | tr '\n' ' ')" "success 0 "
facts_end
