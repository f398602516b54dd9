package testenv

import (
	"context"
	"fmt"
	"path/filepath"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// tokenLifetime outlasts every test and a demo that stays up for the day.
const tokenLifetime = 24 * time.Hour

// ServiceAccountKubeconfig writes a kubeconfig whose token, from the TokenRequest API, is that service account's: what
// uses it has exactly that account's permissions. The service account has to exist.
func (c *ControlPlane) ServiceAccountKubeconfig(ctx context.Context, namespace, name string) (string, error) {
	client, err := kubernetes.NewForConfig(c.config)
	if err != nil {
		return "", fmt.Errorf("making a client of the API server: %w", err)
	}
	seconds := int64(tokenLifetime.Seconds())
	request := &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{ExpirationSeconds: &seconds}}
	token, err := client.CoreV1().ServiceAccounts(namespace).CreateToken(ctx, name, request, metav1.CreateOptions{})
	if err != nil {
		return "", fmt.Errorf("requesting a token of the service account %s/%s: %w", namespace, name, err)
	}
	config := rest.AnonymousClientConfig(c.config)
	config.BearerToken = token.Status.Token
	c.tokens++
	return writeKubeconfig(config, filepath.Join(c.dir, fmt.Sprintf("%s-%s-%d.kubeconfig", namespace, name, c.tokens)))
}

// KubectlEnv is for the environment of a kubectl or helm that works on this control plane, as the administrator. What they remember
// of the API stays with the control plane: under the user's home it could be of another one that had the same port.
func (c *ControlPlane) KubectlEnv() []string {
	return []string{"KUBECONFIG=" + c.kubeconfig, "KUBECACHEDIR=" + filepath.Join(c.dir, "kubectl-cache")}
}

func writeKubeconfig(config *rest.Config, path string) (string, error) {
	config = rest.CopyConfig(config)
	if err := rest.LoadTLSFiles(config); err != nil {
		return "", fmt.Errorf("reading the certificates of the API server's configuration: %w", err)
	}
	const entry = "auditstream"
	kubeconfig := clientcmdapi.NewConfig()
	kubeconfig.Clusters[entry] = &clientcmdapi.Cluster{
		Server:                   config.Host,
		TLSServerName:            config.ServerName,
		InsecureSkipTLSVerify:    config.Insecure,
		CertificateAuthorityData: config.CAData,
	}
	kubeconfig.AuthInfos[entry] = &clientcmdapi.AuthInfo{
		Token:                 config.BearerToken,
		TokenFile:             config.BearerTokenFile,
		ClientCertificateData: config.CertData,
		ClientKeyData:         config.KeyData,
		Username:              config.Username,
		Password:              config.Password,
		Exec:                  config.ExecProvider,
		AuthProvider:          config.AuthProvider,
	}
	kubeconfig.Contexts[entry] = &clientcmdapi.Context{Cluster: entry, AuthInfo: entry}
	kubeconfig.CurrentContext = entry
	if err := clientcmd.WriteToFile(*kubeconfig, path); err != nil {
		return "", fmt.Errorf("writing the kubeconfig %s: %w", path, err)
	}
	return path, nil
}
