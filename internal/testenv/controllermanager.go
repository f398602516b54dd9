package testenv

import (
	"context"
	"fmt"
	"path/filepath"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

// startControllerManager runs the controllers without which namespaces never go, owner references mean nothing and
// service accounts have no default. It does not serve, so it needs no port.
func (c *ControlPlane) startControllerManager(ctx context.Context) error {
	path, err := kubernetesBinary(controllerManager)
	if err != nil {
		return err
	}
	c.kcm, err = startProcess(command{
		name: controllerManager,
		path: path,
		args: []string{
			"--kubeconfig=" + c.kubeconfig,
			"--controllers=namespace-controller,garbage-collector-controller,serviceaccount-controller,serviceaccount-token-controller",
			"--service-account-private-key-file=" + filepath.Join(c.env.ControlPlane.APIServer.CertDir, "sa-signer.key"),
			"--leader-elect=false",
			"--secure-port=0",
		},
		log: c.logFile(controllerManager),
	})
	if err != nil {
		return err
	}
	client, err := kubernetes.NewForConfig(c.config)
	if err != nil {
		return fmt.Errorf("making a client of the API server: %w", err)
	}
	err = await(ctx, "the service account that its controller makes", c.kcm.done, func(ctx context.Context) error {
		_, err := client.CoreV1().ServiceAccounts("default").Get(ctx, "default", metav1.GetOptions{})
		return err
	})
	if err != nil {
		return c.kcm.failed(err)
	}
	return nil
}
