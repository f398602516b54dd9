package testenv

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

// ServeService stands in for kube-proxy: every connection to the Service's address goes to one of its ready endpoints, as
// they are at that time.
func (c *Cluster) ServeService(service *corev1.Service) error {
	client, err := kubernetes.NewForConfig(c.Config())
	if err != nil {
		return fmt.Errorf("making a client of the API server: %w", err)
	}
	for _, port := range service.Spec.Ports {
		address := net.JoinHostPort(service.Spec.ClusterIP, strconv.Itoa(int(port.Port)))
		err := c.Node.net.serve(address, func(ctx context.Context) (net.Conn, error) {
			endpoint, err := endpointOf(ctx, client, service, port.Name)
			if err != nil {
				return nil, err
			}
			return c.Node.DialContext(ctx, "tcp", endpoint)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func endpointOf(ctx context.Context, client kubernetes.Interface, service *corev1.Service, port string) (string, error) {
	slices, err := client.DiscoveryV1().EndpointSlices(service.Namespace).List(ctx, metav1.ListOptions{
		LabelSelector: discoveryv1.LabelServiceName + "=" + service.Name,
	})
	if err != nil {
		return "", err
	}
	for _, slice := range slices.Items {
		for _, p := range slice.Ports {
			for _, endpoint := range slice.Endpoints {
				if *p.Name == port && *endpoint.Conditions.Ready {
					return net.JoinHostPort(endpoint.Addresses[0], strconv.Itoa(int(*p.Port))), nil
				}
			}
		}
	}
	return "", errors.New("no endpoint is ready")
}
