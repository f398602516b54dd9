# The first process of a node, run by unshare in namespaces of its own for processes, mounts and the network. When it
# ends, however it ends, the kernel ends everything that runs in the node, and takes away its mounts and its network.
#
#   init.sh <directory> <control group> <kubelet> <kubelet's arguments>...
set -eu
dir=$1 group=$2
shift 2

# What containerd, kubelet and their helpers write goes to the node's directory, whatever path they have built in.
mkdir -p "$dir/run/netns" "$dir/lib" "$dir/log"
for pair in run:/run lib:/var/lib log:/var/log; do
  mount --bind "$dir/${pair%%:*}" "${pair#*:}"
done

# kubelet sets these for the machine as a whole. Here it finds files that hold what it wants.
while read -r name value; do
  [ -e "/proc/sys/$name" ] || continue
  echo "$value" >"$dir/run/sysctl"
  mv "$dir/run/sysctl" "$dir/run/$(echo "$name" | tr / .)"
  mount --bind "$dir/run/$(echo "$name" | tr / .)" "/proc/sys/$name"
done <<END
vm/overcommit_memory 1
vm/panic_on_oom 0
kernel/panic 10
kernel/panic_on_oops 1
kernel/keys/root_maxkeys 1000000
kernel/keys/root_maxbytes 25000000
END

# The bridge has the node's address. Every address of a Service is the node's too: see node_linux.go.
ip link set lo up
ip link add cni0 type bridge
ip address add 10.244.0.1/24 dev cni0
ip link set cni0 up
ip route add local 10.0.0.0/24 dev lo

containerd --config "$dir/containerd.toml" &
until ctr version >/dev/null 2>&1; do
  kill -0 $! || exit 1
  sleep 0.1
done
"$@" --cgroup-root="/$group" --config="$dir/kubelet.yaml"
