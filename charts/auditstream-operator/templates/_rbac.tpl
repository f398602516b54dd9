{{/* A role from files/rbac, which is a copy of config/: make chart brings it up to date. */}}
{{- define "auditstream-operator.role" -}}
{{- $role := .root.Files.Get (printf "files/rbac/%s.yaml" .file) | fromYaml -}}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: {{ $role.kind }}
metadata:
  name: {{ include "auditstream-operator.nameOf" (dict "root" .root "name" (trimPrefix "auditstream-operator-" $role.metadata.name)) }}
  {{- if eq $role.kind "Role" }}
  namespace: {{ .root.Release.Namespace | quote }}
  {{- end }}
  labels:
    {{- $own := dict }}
    {{- range $key, $value := $role.metadata.labels }}
    {{- if hasPrefix "rbac.authorization.k8s.io/" $key }}{{ $_ := set $own $key $value }}{{ end }}
    {{- end }}
    {{- include "auditstream-operator.labelsWith" (dict "root" .root "own" $own) | nindent 4 }}
rules:
{{ toYaml $role.rules }}
{{- end }}

{{/* A binding of the ServiceAccount to a role of this chart, in a namespace or, without one, in the cluster. */}}
{{- define "auditstream-operator.binding" -}}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: {{ if .namespace }}RoleBinding{{ else }}ClusterRoleBinding{{ end }}
metadata:
  name: {{ include "auditstream-operator.nameOf" (dict "root" .root "name" .name) }}
  {{- with .namespace }}
  namespace: {{ . | quote }}
  {{- end }}
  labels:
    {{- include "auditstream-operator.labels" .root | nindent 4 }}
roleRef:
  apiGroup: rbac.authorization.k8s.io
  kind: {{ .kind | default "ClusterRole" }}
  name: {{ include "auditstream-operator.nameOf" (dict "root" .root "name" .role) }}
subjects:
- kind: ServiceAccount
  name: {{ include "auditstream-operator.serviceAccountName" .root | quote }}
  namespace: {{ .root.Release.Namespace | quote }}
{{- end }}
