#!/usr/bin/env bash
# Builds the control plane that the tests and the demo run on: etcd, kube-apiserver and kube-controller-manager from their
# own modules, in the versions that go.mod here pins, and kubectl where none is installed.
#
#   hack/controlplane/build.sh [directory]     the default is bin/k8s; the binaries go into <directory>/<version>
#
# What is there already is kept. A binary appears only once it is whole, and of two runs at once the second one waits. A
# cold build takes about eight minutes on two cores, so it says how far it is, in plain lines.
set -euo pipefail

module_dir=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
out_root=${1:-$module_dir/../../bin/k8s}
export CGO_ENABLED=0
# A workspace around the repository must not change what is pinned here.
export GOWORK=off
readonly pause=10 # seconds between two lines of progress

pinned() { # <module>: its version in go.mod
  local version
  version=$(awk -v module="$1" '$1 == module && $2 ~ /^v/ { print $2; exit }' "$module_dir/go.mod")
  [[ -n $version ]] || { echo "hack/controlplane/go.mod does not require $1" >&2; return 1; }
  echo "$version"
}

k8s_version=$(pinned k8s.io/kubernetes)
etcd_version=$(pinned go.etcd.io/etcd/server/v3)

# versioned_flags makes the binaries of k8s.io/kubernetes report the version they were built from: their own build
# scripts do it in the same way.
versioned_flags() {
  local major minor package
  IFS=. read -r major minor _ <<<"${k8s_version#v}"
  printf '%s' "-s -w"
  for package in k8s.io/component-base/version k8s.io/client-go/pkg/version; do
    printf ' -X %s.%s' "$package" "gitVersion=$k8s_version" "$package" "gitMajor=$major" "$package" "gitMinor=$minor" \
      "$package" gitTreeState=clean
  done
}

# usable says whether a binary is there and is not one that this script built from another version.
usable() { # <binary> <module> <version>
  local found
  [[ -x $1 ]] || return 1
  found=$(go version -m "$1" 2>/dev/null | awk -v module="$2" '($1 == "mod" || $1 == "dep") && $2 == module { print $3; exit }')
  [[ $found != v* || $found == "$3" ]]
}

# show_progress reads what "go build -v" writes: one line for each package it begins to compile, and anything else as
# it is. It says how many of the packages are done at every tenth, or after $pause seconds.
show_progress() { # <prefix> <packages from the build cache> <packages>
  local prefix=$1 compiled=$2 total=$3 line status percent last_percent begin=$SECONDS last_time=$SECONDS
  last_percent=$((compiled * 100 / total))
  while true; do
    status=0
    IFS= read -r -t "$pause" line || status=$?
    if ((status == 0)); then
      if [[ $line =~ ^[A-Za-z0-9][^[:space:]]*$ ]]; then
        compiled=$((compiled < total ? compiled + 1 : total))
      else
        echo "$prefix: $line"
      fi
    elif ((status < 128)); then # end of input; above 128 is the time limit of read
      return 0
    fi
    percent=$((compiled * 100 / total))
    if ((percent / 10 > last_percent / 10 || SECONDS - last_time >= pause)); then
      if ((compiled == total)); then
        echo "$prefix: $compiled of $total packages (100 %), linking, $((SECONDS - begin)) s so far"
      else
        echo "$prefix: $compiled of $total packages ($percent %)"
      fi
      last_percent=$percent last_time=$SECONDS
    fi
  done
}

# show_downloads counts what the go command writes about downloads, and passes on the rest.
show_downloads() { # <prefix>
  local prefix=$1 line status count=0 last_time=$SECONDS
  while true; do
    status=0
    IFS= read -r -t "$pause" line || status=$?
    if ((status == 0)); then
      if [[ $line == "go: downloading "* ]]; then count=$((count + 1)); else echo "$prefix: $line"; fi
    elif ((status < 128)); then
      break
    fi
    if ((count > 0 && SECONDS - last_time >= pause)); then
      echo "$prefix: downloading modules, $count so far"
      last_time=$SECONDS
    fi
  done
  if ((count > 0)); then echo "$prefix: $count modules downloaded"; fi
}

build() { # <step> <name> <package> <version> <linker flags>
  local name=$2 package=$3 prefix="[$1] $2 $4" flags=$5
  local temporary="$out/.$2.tmp.$$" listing total stale begin=$SECONDS
  listing="$temporary.list"
  temporaries+=("$temporary" "$listing")

  # What the build cache already holds is not compiled again: go list knows, and the count below starts there.
  echo "$prefix: looking up its packages"
  go list -C "$module_dir" -trimpath -deps -f '{{.ImportPath}} {{if .Stale}}{{.StaleReason}}{{end}}' "$package" \
    2> >(show_downloads "$prefix" >&2) >"$listing"
  total=$(wc -l <"$listing")
  stale=$(awk 'NF > 1 && !/ not installed but available in build cache$/' "$listing" | wc -l)
  if ((stale == 0)); then
    echo "$prefix: all $total packages are in the build cache, linking"
  else
    echo "$prefix: $stale of $total packages to compile, the rest is in the build cache"
  fi

  go build -C "$module_dir" -v -trimpath -ldflags "$flags" -o "$temporary" "$package" 2>&1 |
    show_progress "$prefix" "$((total - stale))" "$total"
  mv -f "$temporary" "$out/$name"
  rm -f "$listing"
  echo "$prefix: built in $((SECONDS - begin)) s"
}

ensure() { # <step> <name> <package> <module> <version> <linker flags>
  if usable "$out/$2" "$4" "$5"; then
    return
  fi
  if [[ -x $out/$2 ]]; then echo "[$1] $2: $out/$2 is of another version than $5 and is replaced"; fi
  build "$1" "$2" "$3" "$5" "$6"
}

# ensure_kubectl leaves a kubectl that is installed alone and links to it, so that the directory is whole for programs that
# look for all they need in KUBEBUILDER_ASSETS.
ensure_kubectl() { # <step>
  local installed
  if [[ -L $out/kubectl && -x $out/kubectl ]] || usable "$out/kubectl" k8s.io/kubernetes "$k8s_version"; then
    return
  fi
  if installed=$(command -v kubectl) && [[ ! $installed -ef $out/kubectl ]]; then
    echo "[$1] kubectl: using $installed"
    ln -sfn "$(realpath -s "$installed")" "$out/kubectl"
    return
  fi
  build "$1" kubectl k8s.io/kubernetes/cmd/kubectl "$k8s_version" "$(versioned_flags)"
}

main() {
  mkdir -p "$out_root/$k8s_version"
  out=$(cd -- "$out_root/$k8s_version" && pwd)
  temporaries=()
  trap 'rm -f "${temporaries[@]}"' EXIT

  exec 9>"$out/.lock"
  if ! flock --nonblock 9; then
    echo "Another build of the control plane is under way: waiting for it"
    flock 9
  fi
  rm -f "$out"/.*.tmp.* # left by a build that was killed

  ensure 1/4 etcd go.etcd.io/etcd/server/v3 go.etcd.io/etcd/server/v3 "$etcd_version" "-s -w"
  ensure 2/4 kube-apiserver k8s.io/kubernetes/cmd/kube-apiserver k8s.io/kubernetes "$k8s_version" "$(versioned_flags)"
  ensure 3/4 kube-controller-manager k8s.io/kubernetes/cmd/kube-controller-manager k8s.io/kubernetes "$k8s_version" "$(versioned_flags)"
  ensure_kubectl 4/4
  echo "Control plane $k8s_version (etcd $etcd_version) is in $out"
}

main
