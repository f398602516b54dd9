package auditstore

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// The keys of a binding. In a directory each is a file.
const (
	keyType        = "type"
	keyURI         = "uri"
	keyStream      = "stream"
	keySubject     = "subject"
	keyDomain      = "domain"
	keyCredentials = "credentials"
	keyUsername    = "username"
	keyPassword    = "password"
	keyToken       = "token"
	keyCA          = "ca.crt"
	keyCert        = "tls.crt"
	keyPrivateKey  = "tls.key"
)

// The types of bindings that Open reads. A directory without the key type is taken too: it is often made by hand.
const (
	typeAuditStream = "auditstream"
	typeNATS        = "nats"
)

const bindingRoot = "SERVICE_BINDING_ROOT"

// bindingVariable is an environment variable that stands for a key. Secrets and certificates are given as the path of a file, because
// a variable cannot be rotated and is easily printed.
type bindingVariable struct {
	name string
	file bool
}

const variablePrefix = "AUDITSTORE_"

var bindingVariables = map[string]bindingVariable{
	keyURI:         {name: variablePrefix + "URI"},
	keyStream:      {name: variablePrefix + "STREAM"},
	keySubject:     {name: variablePrefix + "SUBJECT"},
	keyDomain:      {name: variablePrefix + "DOMAIN"},
	keyUsername:    {name: variablePrefix + "USERNAME"},
	keyCredentials: {name: variablePrefix + "CREDENTIALS", file: true},
	keyPassword:    {name: variablePrefix + "PASSWORD_FILE", file: true},
	keyToken:       {name: variablePrefix + "TOKEN_FILE", file: true},
	keyCA:          {name: variablePrefix + "CA", file: true},
	keyCert:        {name: variablePrefix + "CERT", file: true},
	keyPrivateKey:  {name: variablePrefix + "KEY", file: true},
}

// binding says where the keys are. It holds no content, and no path but the one it was given: what is mounted from a Secret is
// replaced by swapping a symbolic link to a directory, so each read has to begin at the top.
type binding struct {
	name string // for messages
	at   func(key string) keyPlace
}

// keyPlace is where one key is found: a file, or the value of an environment variable.
type keyPlace struct {
	name   string // for messages: the path, or the variable
	path   string
	value  string // where there is no path
	needed bool   // a missing file is an error and not an absent key
}

func directoryBinding(dir string) (*binding, error) {
	b := &binding{name: "the binding " + dir, at: func(key string) keyPlace {
		path := filepath.Join(dir, key)
		return keyPlace{name: path, path: path}
	}}
	info, err := os.Stat(dir)
	switch {
	case err != nil:
		return nil, fmt.Errorf("%s cannot be read: %w: mount the binding there, or correct the path", b.name, err)
	case !info.IsDir():
		return nil, fmt.Errorf("%s is not a directory: give the directory that holds the files uri, stream and subject", b.name)
	}
	return b, nil
}

func environmentBinding() (*binding, error) {
	return &binding{name: "the environment (" + variablePrefix + "*)", at: func(key string) keyPlace {
		v, known := bindingVariables[key]
		if !known {
			return keyPlace{name: key}
		}
		value := strings.TrimSpace(os.Getenv(v.name))
		if !v.file || value == "" {
			return keyPlace{name: "$" + v.name, value: value}
		}
		return keyPlace{name: namedFile(v.name, value), path: value, needed: true}
	}}, nil
}

// namedFile names a file for messages. The path only shows where there is such a file: it may be the secret itself, by mistake.
func namedFile(variable, path string) string {
	if _, err := os.Lstat(path); err != nil { //nolint:gosec // whoever sets the environment says which file is read
		return "the file that $" + variable + " names"
	}
	return fmt.Sprintf("$%s (%s)", variable, path)
}

// rootBinding is the binding of the name in $SERVICE_BINDING_ROOT.
func rootBinding(name string) (*binding, error) {
	root, err := readRoot()
	if err != nil {
		return nil, err
	}
	if strings.HasPrefix(name, "..") || name != filepath.Base(name) || name == "." {
		return nil, fmt.Errorf("the binding's name is %q: give the name of a directory in $%s (%s), without slashes", name, bindingRoot, root)
	}
	return directoryBinding(filepath.Join(root, name))
}

func readRoot() (string, error) {
	root := os.Getenv(bindingRoot)
	if root == "" {
		return "", fmt.Errorf("$%s is not set: set it to the directory that the bindings are mounted in", bindingRoot)
	}
	return root, nil
}

// anyBinding is what Open uses where no option names a binding. Sources are never mixed: a server from one with the credentials
// of another is a leak.
func anyBinding() (*binding, error) {
	for _, v := range bindingVariables {
		if os.Getenv(v.name) != "" {
			return environmentBinding()
		}
	}
	if os.Getenv(bindingRoot) == "" {
		return nil, fmt.Errorf("nothing says where the trail is: mount a binding and set $%s, or set $%s, $%s and $%s, "+
			"or name a directory with FromDirectory", bindingRoot, variablePrefix+"URI", variablePrefix+"STREAM", variablePrefix+"SUBJECT")
	}
	return onlyBinding()
}

// onlyBinding is the one binding of $SERVICE_BINDING_ROOT that is for an audit trail.
func onlyBinding() (*binding, error) {
	root, err := readRoot()
	if err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(root)
	if err != nil {
		return nil, fmt.Errorf("$%s: %w: set it to the directory that the bindings are mounted in", bindingRoot, err)
	}
	found := map[string]*binding{}
	var others []string
	for _, entry := range entries {
		// A mounted Secret keeps its versions in directories that begin with two dots.
		if strings.HasPrefix(entry.Name(), "..") {
			continue
		}
		b, err := directoryBinding(filepath.Join(root, entry.Name()))
		if err != nil {
			continue // a file
		}
		if b.isTrail() {
			found[entry.Name()] = b
		} else {
			others = append(others, entry.Name())
		}
	}
	return singleBinding(root, found, others)
}

func singleBinding(root string, found map[string]*binding, others []string) (*binding, error) {
	names := slices.Sorted(maps.Keys(found))
	switch len(names) {
	case 1:
		return found[names[0]], nil
	case 0:
		return nil, fmt.Errorf("no binding in $%s (%s) is for an audit trail (it has %q): mount one of the type %q, "+
			"or one of the type %q or none with the key stream or subject", bindingRoot, root, others, typeAuditStream, typeNATS)
	default:
		return nil, fmt.Errorf("$%s (%s) has several bindings for an audit trail, %q: name one with FromBinding", bindingRoot, root, names)
	}
}

// isTrail says whether the binding is meant for this package, also where something is wrong with it.
func (b *binding) isTrail() bool {
	kind, given, err := b.text(keyType)
	switch {
	case err == nil && given && kind != typeNATS:
		return kind == typeAuditStream
	case err != nil:
		return false
	}
	return b.has(keyStream) || b.has(keySubject)
}

// check reads everything once and says all that is wrong.
func (b *binding) check() error {
	_, targetErr := b.target()
	_, caErr := b.rootCAs()
	_, certErr := b.certificate()
	var identityErr error
	if _, _, err := b.uriIdentity(); err == nil { // otherwise target has said so
		_, identityErr = b.identity()
	}
	return errors.Join(b.checkType(), targetErr, identityErr, caErr, certErr)
}

func (b *binding) checkType() error {
	kind, given, err := b.text(keyType)
	if err == nil && given && kind != typeAuditStream && kind != typeNATS {
		err = fmt.Errorf("%s is %q: name a binding of the type %q or %q", b.at(keyType).name, kind, typeAuditStream, typeNATS)
	}
	return err
}
