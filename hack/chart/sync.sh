#!/usr/bin/env bash
# Writes what the chart and dist/install.yaml have from config/, and the version in docs/install.md, so that each is maintained in
# one place.
#
#   hack/chart/sync.sh <directory>           writes below it: the repository's own for make chart, another one to compare
#   hack/chart/sync.sh --check               fails where what is in the repository is stale
set -euo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")/../.."
export LC_ALL=C

readonly chart=charts/auditstream-operator
readonly kustomize=${KUSTOMIZE:-bin/kustomize}

chart_value() { # <key>: what Chart.yaml says
  awk -v key="$1:" '$1 == key { print $2; exit }' "$chart/Chart.yaml"
}

image() {
  local repository
  repository=$(awk '$1 == "repository:" { print $2; exit }' "$chart/values.yaml")
  echo "$repository:$(chart_value appVersion)"
}

copy() { # <directory in files> <file>...
  local to=$files/$1
  shift
  if (($# == 0)); then return; fi
  mkdir -p "$to"
  cp -- "$@" "$to"
}

copy_kind() { # <kind> <directory in files>: from config/prometheus
  local found
  mapfile -t found < <(grep -ls "^kind: $1\$" config/prometheus/*.yaml)
  copy "$2" "${found[@]}"
}

write() { # <directory>
  local root=$1 files=$1/$chart/files.new
  rm -rf "$files"
  shopt -s nullglob
  copy crds config/crd/bases/*.yaml
  copy rbac config/rbac/*role.yaml config/components/namespaced/cluster_identity_role.yaml
  copy_kind ServiceMonitor servicemonitors
  copy_kind PrometheusRule prometheusrules
  copy grafana config/grafana/*.json
  rm -rf "$root/$chart/files"
  mv -- "$files" "$root/$chart/files"

  mkdir -p "$root/dist"
  sed -i.tmp "s|newTag: .*|newTag: $(chart_value appVersion)|" "$root/docs/install.md"
  rm -f -- "$root/docs/install.md.tmp"
  "$kustomize" build config/default | sed "s|image: controller:latest\$|image: $(image)|" >"$root/dist/install.yaml.tmp"
  mv -- "$root/dist/install.yaml.tmp" "$root/dist/install.yaml"
}

check() {
  local path stale=0
  work=$(mktemp -d)
  trap 'rm -rf "$work"' EXIT
  mkdir "$work/docs"
  cp docs/install.md "$work/docs"
  write "$work"
  for path in "$chart/files" dist/install.yaml docs/install.md; do
    if ! diff -ruN "$path" "$work/$path" >"$work/diff"; then
      head -n 40 "$work/diff"
      echo "$path is not what config/ and Chart.yaml say: run make chart, and add it to the commit." >&2
      stale=1
    fi
  done
  return "$stale"
}

case ${1:-} in
  --check) check ;;
  "" | -*) sed -n '2,7p' "${BASH_SOURCE[0]}" >&2; exit 2 ;;
  *)
    root=$(cd -- "$1" && pwd)
    write "$root"
    ;;
esac
