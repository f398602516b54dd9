#!/usr/bin/env bash
# Says what a kubelet of the tests needs and this machine lacks. It installs nothing unless INSTALL=1.
set -euo pipefail

if ((EUID != 0)); then
  echo "Running Pods needs root, and this is $(id -un): run it as root, on a machine that you do not mind being used so." >&2
  exit 1
fi

missing=()
while read -r program package; do
  command -v "$program" >/dev/null || missing+=("$package")
done <<'END'
containerd containerd
runc runc
/usr/lib/cni/bridge containernetworking-plugins
ip iproute2
END
((${#missing[@]})) || exit 0

install="apt-get install --no-install-recommends ${missing[*]}"
if [[ ${INSTALL:-} != 1 ]]; then
  echo "Running Pods needs Debian packages that are not installed. Install them, or let INSTALL=1 do it: $install" >&2
  exit 1
fi
echo "Installing ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
# A mirror can be out of order for a moment, and another apt may hold the lock. Old lists may do, so only the installation counts.
for pause in 5 20 ""; do
  apt-get update -qq || true
  if $install --yes -qq >/dev/null; then exit 0; fi
  [[ -z $pause ]] || sleep "$pause"
done
echo "apt-get failed three times, for the reasons above." >&2
exit 1
