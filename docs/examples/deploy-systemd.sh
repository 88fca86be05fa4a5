#!/usr/bin/env bash
# Deploys a version of the shop, which runs as instances of the systemd unit shop@.service.
#
#   deploy-systemd.sh VERSION
#
# There are two sets of ports. The new version gets the set that does not run; the other one is stopped only when Sluice says that
# it may be. Its exit code is that of `sluice deploy`.
set -euo pipefail

version=$1
service=shop
root=${ROOT:-/srv/shop}
read -ra blue <<<"${BLUE:-5001 5002}"
read -ra green <<<"${GREEN:-5011 5012}"

[ -d "$root/releases/$version" ] || { echo "$root/releases/$version: there is no such release" >&2; exit 2; }
units() { printf "$service@%s\n" "$@"; }
# Whether any of them runs.
run() { systemctl is-active --quiet "$@"; }
mapfile -t blue_units < <(units "${blue[@]}")
mapfile -t green_units < <(units "${green[@]}")
if ! run "${blue_units[@]}"; then
  new=("${blue[@]}") new_units=("${blue_units[@]}") old_units=("${green_units[@]}")
elif ! run "${green_units[@]}"; then
  new=("${green[@]}") new_units=("${green_units[@]}") old_units=("${blue_units[@]}")
else
  echo "both sets run, so an earlier deploy is not at its end: when \`sluice wait $service\` is, stop and disable the set that does not serve" >&2
  exit 2
fi

nodes=()
mkdir -p "$root/ports"
for port in "${new[@]}"; do
  ln -sfn "$root/releases/$version" "$root/ports/$port"
  nodes+=(--node "127.0.0.1:$port")
done
# A version that died over and over a moment ago must not keep this one from being started.
systemctl reset-failed "${new_units[@]}" 2>/dev/null || true
systemctl restart "${new_units[@]}" || { systemctl stop "${new_units[@]}"; exit 2; }

code=0
sluice deploy "$service" --version "$version" "${nodes[@]}" --timeout "${TIMEOUT:-10m}" || code=$?
case $code in
  0 | 6) # Done: the old instances hold no work. Only the new ones start with the machine.
    systemctl enable --quiet "${new_units[@]}"
    systemctl disable --quiet --now "${old_units[@]}" ;;
  2 | 3 | 4) # Nothing of it serves, and the file is as it was.
    systemctl stop "${new_units[@]}" ;;
  *) # 1, 5, 7: somebody else decides, or nobody knows yet. Stop nothing that may serve; it starts with the machine, too.
    systemctl enable --quiet "${new_units[@]}"
    echo "$service: nothing is stopped; when \`sluice wait $service\` ends, it says which nodes may be: \`systemctl disable --now\` those" >&2 ;;
esac
exit "$code"
