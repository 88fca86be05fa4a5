#!/usr/bin/env bash
# The Dockerfile, docs/examples/compose.yaml and docs/examples/deploy-compose.sh with a container engine and Docker Compose 2, under load.
#
#   tests/machine/compose.sh           builds the image first, which takes its time
#   BUILT=1 tests/machine/compose.sh   with the image `sluice` that is there
#
# It makes images (shop:v1…), containers and a volume of its own, listens on port 8080, and takes all of it away but the image `sluice`.
# Exit code 77: there is no engine. The images python:3-slim and those of the Dockerfile are pulled, or must be there.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
exec </dev/null
. tests/machine/facts.sh
. tests/machine/load.sh
url=http://127.0.0.1:8080 work=$PWD/target/machine/compose
docker compose version >/dev/null 2>&1 && docker info >/dev/null 2>&1 || { echo "no docker with compose here, or no engine behind it" >&2; exit 77; }
[ "$(id -u)" = 0 ] || { echo "what the containers write belongs to users of theirs: run this as root" >&2; exit 77; }

project=$PWD/try/shop
rm -rf "$work" "$project"
mkdir -p "$work"
end() {
  (cd "$project" && docker compose --profile blue --profile green down --volumes --timeout 5) >"$work/down.log" 2>&1
  docker image rm shop:v1 shop:v2 shop:v3 shop:v4 shop:v5 >/dev/null 2>&1
  rm -rf "$project"
}
trap end EXIT

serves() { curl -s --max-time 5 -H 'Host: shop.example.com' "$url/"; }
serves_now() { is "$(serves)" "$1"; }
container() { docker compose ps --all --quiet "$1"; }
of() { docker inspect --format "$2" "$(container "$1")"; }
state() { local id; id=$(container "$1"); [ -n "$id" ] && docker inspect --format '{{.State.Status}}' "$id" || echo none; }
colours() { echo "$(state shop-blue) $(state shop-green)"; }
health() { of sluice '{{.State.Health.Status}}'; }
healthy() { is "$(health)" healthy; }
sluice() { docker compose exec -T sluice sluice "$@"; }
deploy() { ./deploy-compose.sh "$1" >"$work/deploy.$1.log" 2>&1; }
code() { local status=0; "$@" || status=$?; echo "$status"; }
in_flight() { sluice status | grep -w '1 in flight'; }
slow_begins() {
  curl -s -o /dev/null -w '%{http_code} %{size_download}' -H 'Host: shop.example.com' "$url/slow" >"$work/slow" &
  slow=$!
  until_true 5 in_flight >/dev/null
}
slow_arrives() { until_true 10 not kill -0 "$slow" && is "$(cat "$work/slow")" "200 3000"; }

echo "the image (docker $(docker version --format '{{.Server.Version}}'), compose $(docker compose version --short))"
for version in v1 v2 v3 v4 v5; do
  image=$work/shop/$version
  mkdir -p "$image"
  cp tests/machine/shop "$image/server"
  printf 'FROM python:3-slim\nCOPY . /shop\nENV ADDRESS=0.0.0.0 PORT=8000 VERSION=%s\nCMD ["/shop/server"]\n' "$version" >"$image/Dockerfile"
  [ $version != v3 ] || touch "$image/sick"
  [ $version != v4 ] || printf '#!/bin/sh\nexit 1\n' >"$image/server"
  fact "the shop's $version is built" docker build --quiet --tag "shop:$version" "$image"
done
cat >"$work/sluice.toml" <<'EOF'
[[listener]]
name = "http"
bind = "0.0.0.0:8080"

[service.shop]
match   = "shop.example.com"
health  = { path = "/healthz" }
release = "v0"

[service.shop.versions]
v0 = ["127.0.0.1:1"]        # a placeholder

[service.shop.rollout]
deadline = "8s"
EOF
# Word for word, but for who does it.
block docs/deploying.md '## Docker Compose' | sed 's/sudo //' | { [ -n "${BUILT:-}" ] && sed '/^docker build/d' || cat; } >"$work/first.sh"
fact 'the first version is deployed as docs/deploying.md says' env HOME="$work" bash -euxc ". $work/first.sh"
cd "$project" || exit 1
fact 'it serves' serves_now v1
fact 'in its first colour' is "$(colours)" "running none"
echo "      the image has $(($(docker image inspect --format '{{.Size}}' sluice) / 1000000)) MB"
fact 'sluice is healthy' until_true 20 healthy
fact 'it is nobody special' is "$(docker compose exec -T sluice id -u)" 10001

echo "deploy-compose.sh"
load_start
until_true 20 test -s "$work/load/slow1"
fact 'a second version under load: done' is "$(code deploy v2)" 0
fact 'it serves, and the old colour is stopped' is "$(serves) $(colours)" "v2 exited running"
fact 'a version that is never healthy: exit code 3' is "$(code deploy v3)" 3
fact 'what served before serves' is "$(serves) $(colours)" "v2 exited running"
fact 'a version that dies at once: exit code 3' is "$(code deploy v4)" 3
fact 'what served before serves' is "$(serves) $(colours)" "v2 exited running"
fact 'a version without an image: exit code 2' is "$(code deploy v9)" 2
fact 'a good one right after it: done' is "$(code deploy v5)" 0
fact 'it serves, and the old colour is stopped' is "$(serves) $(colours)" "v5 running exited"
load_end
fact "no request failed in all of that: $ended" load_was_good

echo "Sluice is started again"
slow_begins
fact 'restart' docker compose restart sluice
fact 'an answer that was under way arrived whole' slow_arrives
fact 'what served before serves' until_true 10 serves_now v5
before=$(of sluice '{{.State.Pid}}')
fact 'it is killed' kill -KILL "$before"
fact 'the engine starts it again' until_true 20 eval '[ "$(of sluice "{{.State.Running}} {{.State.Pid}}")" != "true $before" ]'
fact 'what served before serves' until_true 20 serves_now v5
fact 'it is healthy' until_true 20 healthy
slow_begins
fact 'stop' docker compose stop sluice
fact 'an answer that was under way arrived whole' slow_arrives
fact 'it ended well' is "$(of sluice '{{.State.ExitCode}}')" 0
docker compose up --detach sluice >/dev/null 2>&1
fact 'what served before serves, with its history' until_true 20 serves_now v5
docker compose exec -T sluice sluice history shop >"$work/history"
fact 'and its history is there' grep -w v2 "$work/history"
facts_end
