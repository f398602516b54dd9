package testenv

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/osapi-io/auditstream-operator/internal/freeport"
)

// NATSOptions says what to start.
type NATSOptions struct {
	// Dir is for the configuration, the log and JetStream's files. Empty makes a temporary one, which Stop removes.
	Dir string
	// Port is where clients connect, 0 for a free one.
	Port int
	// Name is the server's name; the default is "nats".
	Name string
	// Cluster makes the server a member of a cluster.
	Cluster *NATSCluster
	// ConfigExtra is added to the configuration as it is.
	ConfigExtra string
	// Connect are options that a client needs, where ConfigExtra asks for credentials.
	Connect []nats.Option
}

// NATSCluster is a server's place in a cluster.
type NATSCluster struct {
	// Port is where the other members connect.
	Port int
	// Routes are the ports of all members.
	Routes []int
}

// NATSServer is a nats-server with JetStream on file storage.
type NATSServer struct {
	opts      NATSOptions
	dir       string
	removeDir func() error
	binary    string
	proc      *process
}

// StartNATS returns once JetStream answers.
func StartNATS(ctx context.Context, opts NATSOptions) (*NATSServer, error) {
	s, err := newNATSServer(opts)
	if err != nil {
		return nil, err
	}
	if err := s.start(ctx); err != nil {
		return nil, errors.Join(err, s.Stop())
	}
	return s, nil
}

// NATSServers are the servers of a cluster, or one alone.
type NATSServers []*NATSServer

// StartNATSCluster starts n servers as one cluster, or one alone where n is 1, with their files below dir, which may be empty
// as NATSOptions.Dir. It returns once JetStream answers on each.
func StartNATSCluster(ctx context.Context, dir string, n int) (servers NATSServers, err error) {
	defer func() {
		if err != nil {
			err = errors.Join(err, servers.Stop())
			servers = nil
		}
	}()
	routes := make([]int, n)
	for i := range routes {
		if routes[i], err = freeport.Next(); err != nil {
			return nil, err
		}
	}
	for i, port := range routes {
		opts := NATSOptions{Name: fmt.Sprintf("nats-%d", i+1)}
		if n > 1 {
			opts.Cluster = &NATSCluster{Port: port, Routes: routes}
		}
		if dir != "" {
			opts.Dir = filepath.Join(dir, opts.Name)
		}
		s, err := newNATSServer(opts)
		if err != nil {
			return servers, err
		}
		servers = append(servers, s)
		if err := s.launch(); err != nil {
			return servers, err
		}
	}
	for _, s := range servers {
		if err := s.awaitJetStream(ctx); err != nil {
			return servers, err
		}
	}
	return servers, nil
}

// URL is the addresses of all servers, as clients take them.
func (s NATSServers) URL() string {
	urls := make([]string, len(s))
	for i, server := range s {
		urls[i] = server.URL()
	}
	return strings.Join(urls, ",")
}

// Stop stops all servers, as NATSServer.Stop does.
func (s NATSServers) Stop() error {
	errs := make([]error, len(s))
	for i, server := range s {
		errs[i] = server.Stop()
	}
	return errors.Join(errs...)
}

func newNATSServer(opts NATSOptions) (*NATSServer, error) {
	binary, err := builtBinary("nats-server", "NATS_SERVER", "nats-server")
	if err != nil {
		return nil, fmt.Errorf("looking for nats-server: %w", err)
	}
	if opts.Name == "" {
		opts.Name = "nats"
	}
	if opts.Port == 0 {
		if opts.Port, err = freeport.Next(); err != nil {
			return nil, err
		}
	}
	dir, removeDir, err := ensureDir(opts.Dir, "auditstream-nats-")
	if err != nil {
		return nil, err
	}
	s := &NATSServer{opts: opts, dir: dir, removeDir: removeDir, binary: binary}
	if err := os.WriteFile(s.configFile(), []byte(s.configuration()), 0o600); err != nil {
		return nil, errors.Join(fmt.Errorf("writing the configuration of nats-server: %w", err), removeDir())
	}
	return s, nil
}

func (s *NATSServer) configuration() string {
	var b strings.Builder
	fmt.Fprintf(&b, "server_name: %q\nlisten: %q\njetstream { store_dir: %q }\n",
		s.opts.Name, address(s.opts.Port), filepath.Join(s.dir, "jetstream"))
	if c := s.opts.Cluster; c != nil {
		// Clients stay with the addresses that they were given: that of a Gate, for one.
		fmt.Fprintf(&b, "cluster {\n  name: \"auditstream\"\n  no_advertise: true\n  listen: %q\n  routes: [\n", address(c.Port))
		for _, port := range c.Routes {
			fmt.Fprintf(&b, "    %q\n", "nats://"+address(port))
		}
		b.WriteString("  ]\n}\n")
	}
	b.WriteString(s.opts.ConfigExtra)
	return b.String()
}

func (s *NATSServer) configFile() string { return filepath.Join(s.dir, s.opts.Name+".conf") }

func (s *NATSServer) start(ctx context.Context) error {
	if err := s.launch(); err != nil {
		return err
	}
	return s.awaitJetStream(ctx)
}

func (s *NATSServer) launch() (err error) {
	s.proc, err = startProcess(command{
		name: "nats-server",
		path: s.binary,
		args: []string{"--config", s.configFile()},
		log:  filepath.Join(s.dir, s.opts.Name+".log"),
	})
	return err
}

func (s *NATSServer) awaitJetStream(ctx context.Context) error {
	err := await(ctx, "JetStream to answer", s.proc.done, func(ctx context.Context) error {
		nc, err := nats.Connect(s.URL(), append([]nats.Option{nats.NoReconnect()}, s.opts.Connect...)...)
		if err != nil {
			return err
		}
		defer nc.Close()
		js, err := jetstream.New(nc)
		if err != nil {
			return err
		}
		_, err = js.AccountInfo(ctx)
		return err
	})
	if err != nil {
		return s.proc.failed(err)
	}
	return nil
}

// URL is the address clients connect to. It stays the same after a restart.
func (s *NATSServer) URL() string { return "nats://" + address(s.opts.Port) }

// Name is the server's name, which is how a cluster names a leader.
func (s *NATSServer) Name() string { return s.opts.Name }

// LogFile is what the server writes.
func (s *NATSServer) LogFile() string { return filepath.Join(s.dir, s.opts.Name+".log") }

// Pid is the process id of the server that was started last.
func (s *NATSServer) Pid() int { return s.proc.pid() }

// Kill ends the server with SIGKILL and keeps its files.
func (s *NATSServer) Kill() error { return s.proc.kill() }

// Shutdown ends the server with SIGTERM and keeps its files.
func (s *NATSServer) Shutdown() error { return s.proc.stop(stopGrace) }

// Restart starts the server again on the same port with the same files, after a shutdown if it is running. It returns
// once JetStream answers.
func (s *NATSServer) Restart(ctx context.Context) error {
	if err := s.Shutdown(); err != nil {
		return err
	}
	return s.start(ctx)
}

// Stop ends the server with SIGTERM and removes its directory, unless it was given. Stopping again does nothing.
func (s *NATSServer) Stop() error {
	var errs []error
	if s.proc != nil {
		errs = append(errs, s.Shutdown())
	}
	if s.removeDir != nil {
		errs = append(errs, s.removeDir())
		s.removeDir = nil
	}
	return errors.Join(errs...)
}

// loopback is where everything listens.
const loopback = "127.0.0.1"

func address(port int) string { return fmt.Sprintf("%s:%d", loopback, port) }
