{{- define "auditstream-operator.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end }}

{{/* What the names of objects begin with. The Deployment adds 19 characters, and a name may have 63. */}}
{{- define "auditstream-operator.fullname" -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- if .Values.fullnameOverride -}}
{{- $name = .Values.fullnameOverride -}}
{{- else if contains $name .Release.Name -}}
{{- $name = .Release.Name -}}
{{- else -}}
{{- $name = printf "%s-%s" .Release.Name $name -}}
{{- end -}}
{{- $name | trunc 43 | trimSuffix "-" -}}
{{- end }}

{{- define "auditstream-operator.controllerManager" -}}
{{ include "auditstream-operator.fullname" . }}-controller-manager
{{- end }}

{{- define "auditstream-operator.selectorLabels" -}}
app.kubernetes.io/name: {{ include "auditstream-operator.name" . | quote }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
control-plane: controller-manager
{{- end }}

{{/* The labels of every object; with them come extraLabels, which replace none. */}}
{{- define "auditstream-operator.labels" -}}
{{ include "auditstream-operator.labelsWith" (dict "root" .) }}
{{- end }}

{{/* The same with more labels of the object's own, and with labels that values give this object. Its own replace both. */}}
{{- define "auditstream-operator.labelsWith" -}}
{{- $own := dict
  "helm.sh/chart" (printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-")
  "app.kubernetes.io/name" (include "auditstream-operator.name" .root)
  "app.kubernetes.io/instance" .root.Release.Name
  "app.kubernetes.io/version" .root.Chart.AppVersion
  "app.kubernetes.io/managed-by" .root.Release.Service -}}
{{ toYaml (merge $own (.own | default dict) (.values | default dict) .root.Values.extraLabels) }}
{{- end }}

{{- define "auditstream-operator.image" -}}
{{- $tag := .Values.image.tag | default .Chart.AppVersion -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}{{ with .Values.image.tag }}:{{ . }}{{ end }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ $tag }}
{{- end -}}
{{- end }}

{{- define "auditstream-operator.serviceAccountName" -}}
{{- if .Values.serviceAccount.name -}}
{{ .Values.serviceAccount.name }}
{{- else if .Values.serviceAccount.create -}}
{{ include "auditstream-operator.controllerManager" . }}
{{- else -}}
default
{{- end -}}
{{- end }}

{{/* The name of an object that a file from config/ names. */}}
{{- define "auditstream-operator.nameOf" -}}
{{ include "auditstream-operator.fullname" .root }}-{{ .name }}
{{- end }}
