package argocd

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"github.com/osapi-io/auditstream-operator/internal/testenv"
)

// Health is what Argo CD shows of a resource.
type Health struct {
	Status  string `json:"status"`
	Message string `json:"message,omitempty"`
}

// What health.lua may answer.
const (
	Healthy     = "Healthy"
	Progressing = "Progressing"
	Degraded    = "Degraded"
	Suspended   = "Suspended"
)

// Action is an entry in the menu of actions.
type Action struct {
	Name     string `json:"name"`
	Disabled bool   `json:"disabled"`
}

// Dir is where the scripts and their test data are, in the layout of Argo CD's resource_customizations.
func Dir() (string, error) {
	root, err := testenv.RepoRoot()
	if err != nil {
		return "", err
	}
	return filepath.Join(root, "config", "argocd", "resource_customizations", "audit.osapi.io", "AuditStream"), nil
}

func read(parts ...string) (string, error) {
	dir, err := Dir()
	if err != nil {
		return "", err
	}
	text, err := os.ReadFile(filepath.Join(append([]string{dir}, parts...)...))
	if err != nil {
		return "", fmt.Errorf("reading a script: %w", err)
	}
	return string(text), nil
}

// HealthOf runs health.lua over a resource.
func HealthOf(obj map[string]any) (Health, error) {
	text, err := read("health.lua")
	if err != nil {
		return Health{}, err
	}
	return runHealth(text, obj)
}

func runHealth(script string, obj map[string]any) (Health, error) {
	answer, err := run(script, obj)
	if err != nil {
		return Health{}, fmt.Errorf("running health.lua: %w", err)
	}
	status, _ := answer["status"].(string)
	message, _ := answer["message"].(string)
	if !slices.Contains([]string{Healthy, Progressing, Degraded, Suspended}, status) {
		return Health{}, fmt.Errorf("health.lua answered %v, whose status is none that Argo CD knows", answer)
	}
	return Health{Status: status, Message: message}, nil
}

// Discover runs discovery.lua over a resource. The actions are in the order of their names.
func Discover(obj map[string]any) ([]Action, error) {
	text, err := read("actions", "discovery.lua")
	if err != nil {
		return nil, err
	}
	return runDiscovery(text, obj)
}

func runDiscovery(script string, obj map[string]any) ([]Action, error) {
	answer, err := run(script, obj)
	if err != nil {
		return nil, fmt.Errorf("running discovery.lua: %w", err)
	}
	var actions []Action
	for _, name := range slices.Sorted(maps.Keys(answer)) {
		disabled := false // as Argo CD takes it where it is not said
		if settings, ok := answer[name].(map[string]any); ok {
			disabled, _ = settings["disabled"].(bool)
		}
		actions = append(actions, Action{Name: name, Disabled: disabled})
	}
	return actions, nil
}

// Act runs the script of an action over a resource and returns what it makes of it. Argo CD patches the resource with the
// difference.
func Act(action string, obj map[string]any) (map[string]any, error) {
	text, err := read("actions", action, "action.lua")
	if err != nil {
		return nil, err
	}
	return runAction(text, obj)
}

func runAction(script string, obj map[string]any) (map[string]any, error) {
	changed, err := run(script, obj)
	if err != nil {
		return nil, fmt.Errorf("running action.lua: %w", err)
	}
	return changed, nil
}
