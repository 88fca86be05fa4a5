#!/usr/bin/env bash
# Deploys a version of the shop with Docker Compose: see compose.yaml.
#
#   deploy-compose.sh VERSION
#
# The colour that does not run gets the new version; the other one is stopped only when Sluice says that it may be. Its exit code
# is that of `sluice deploy`.
set -euo pipefail

version=$1
service=shop
blue_node=${BLUE_NODE:-shop-blue:8000}
green_node=${GREEN_NODE:-shop-green:8000}

# Whether it runs.
run() { [ -n "$(docker compose ps --quiet --status running "$1")" ]; }
if ! run shop-blue; then
  old=shop-green new=shop-blue node=$blue_node
  export BLUE_TAG=$version
elif ! run shop-green; then
  old=shop-blue new=shop-green node=$green_node
  export GREEN_TAG=$version
else
  echo "both colours run, so an earlier deploy is not at its end: when \`sluice wait $service\` is, \`docker compose stop\` the one that does not serve" >&2
  exit 2
fi
docker compose up --detach --no-deps --force-recreate "$new" || { docker compose stop "$new"; exit 2; }

code=0
docker compose exec -T sluice sluice deploy "$service" --version "$version" --node "$node" --timeout "${TIMEOUT:-10m}" || code=$?
case $code in
  0 | 6) # Done: the old container holds no work.
    docker compose stop "$old" ;;
  2 | 3 | 4) # Nothing of it serves, and the file is as it was.
    docker compose stop "$new" ;;
  *) # 1, 5, 7: somebody else decides, or nobody knows yet. Stop nothing that may serve.
    echo "$service: nothing is stopped; when \`sluice wait $service\` ends, it says which node may be: \`docker compose stop\` that" >&2 ;;
esac
exit "$code"
