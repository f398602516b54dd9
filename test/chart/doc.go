// Package chart tests what people install the operator with: the Helm chart, config/default with its components, and
// dist/install.yaml. What they render is compared with files in testdata and with each other; docs/install.md, the chart's
// life from its installation to the end, and the namespaced mode are tried on a real API server, with the operator as a process
// under the ServiceAccount and the roles that the chart gives it. There is no kubelet: Pods are not run.
package chart
