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
if systemctl is-active --quiet "$service@${blue[0]}"; then
  old=("${blue[@]}") new=("${green[@]}")
else
  old=("${green[@]}") new=("${blue[@]}")
fi
units() { printf "$service@%s\n" "$@"; }
mapfile -t old_units < <(units "${old[@]}")
mapfile -t new_units < <(units "${new[@]}")

nodes=()
mkdir -p "$root/ports"
for port in "${new[@]}"; do
  ln -sfn "$root/releases/$version" "$root/ports/$port"
  nodes+=(--node "127.0.0.1:$port")
done
systemctl restart "${new_units[@]}"

code=0
sluice deploy "$service" --version "$version" "${nodes[@]}" --timeout "${TIMEOUT:-10m}" || code=$?
case $code in
  0 | 6) # Done: the old instances hold no work. Only the new ones start with the machine.
    systemctl enable --quiet "${new_units[@]}"
    systemctl disable --quiet --now "${old_units[@]}" ;;
  2 | 3 | 4) # Nothing of it serves, and the file is as it was.
    systemctl stop "${new_units[@]}" ;;
  *) # 1, 5, 7: somebody else decides, or nobody knows yet. Stop nothing that may serve.
    echo "$service: nothing is stopped; \`sluice status $service\` shows what serves" >&2 ;;
esac
exit "$code"
