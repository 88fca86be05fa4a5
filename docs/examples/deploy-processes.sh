#!/usr/bin/env bash
# Deploys a version of a service that runs as plain processes on this machine.
#
#   deploy-processes.sh SERVICE VERSION COMMAND…
#
# Starts COMMAND once for each instance, with PORT and VERSION in its environment; gives them to Sluice; and stops the processes
# of older versions only when Sluice says that they may be stopped. Its exit code is that of `sluice deploy`.
#
#   INSTANCES   how many processes (2)
#   FIRST_PORT  where to look for free ports (5001)
#   RUN         where process ids and logs are kept, a folder for each version (run)
#   TIMEOUT     how long to wait (10m)
set -euo pipefail

service=$1 version=$2
shift 2
run=${RUN:-run}/$service
here=$run/$version
mkdir -p "$here"
if compgen -G "$here/*.pid" >/dev/null; then
  echo "$here: $version was started before; deploy under a new version name" >&2
  exit 2
fi

in_use() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

# stop FOLDER: ends the processes of one version, and waits until they are gone.
stop() {
  local file pid
  for file in "$1"/*.pid; do
    [ -e "$file" ] || continue
    pid=$(<"$file")
    kill "$pid" 2>/dev/null || true
    for _ in {1..100}; do kill -0 "$pid" 2>/dev/null || break; sleep 0.1; done
    kill -9 "$pid" 2>/dev/null || true
    rm "$file"
  done
}

nodes=() started=0 port=${FIRST_PORT:-5001}
while [ "$started" -lt "${INSTANCES:-2}" ]; do
  if ! in_use "$port"; then
    PORT=$port VERSION=$version nohup "$@" >"$here/$port.log" 2>&1 </dev/null &
    echo "$!" >"$here/$port.pid"
    nodes+=(--node "127.0.0.1:$port")
    started=$((started + 1))
  fi
  port=$((port + 1))
done

code=0
sluice deploy "$service" --version "$version" "${nodes[@]}" --timeout "${TIMEOUT:-10m}" || code=$?
case $code in
  0 | 6) # Done: every other version holds no work and gets none. After 6, a drain deadline cut something, which is listed above.
    for old in "$run"/*/; do
      [ "${old%/}" = "$here" ] || stop "${old%/}"
    done ;;
  2 | 3 | 4) # Nothing of it serves, and the file is as it was: the new processes are of no use.
    stop "$here" ;;
  *) # 1, 5, 7: somebody else decides, or nobody knows yet. Stop nothing that may serve.
    echo "$service: nothing is stopped; \`sluice status $service\` shows what serves" >&2 ;;
esac
exit "$code"
