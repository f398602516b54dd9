{{/* The manager's arguments. What is at its default is left to the manager. */}}
{{- define "auditstream-operator.args" -}}
{{- $nats := .Values.nats -}}
- --leader-elect
- --health-probe-bind-address=:8081
{{- if .Values.metrics.enabled }}
- --metrics-bind-address=:{{ .Values.metrics.port }}
{{- if .Values.metrics.certificateSecret }}
- --metrics-cert-path=/etc/auditstream-operator/metrics
{{- end }}
{{- end }}
{{- with .Values.namespaces }}
- --namespaces={{ join "," . }}
{{- end }}
{{- with .Values.maxConcurrentReconciles }}
- --max-concurrent-reconciles={{ . }}
{{- end }}
{{- with .Values.resyncInterval }}
- --resync-interval={{ . }}
{{- end }}
{{- with .Values.logLevel }}
- --zap-log-level={{ . }}
{{- end }}
{{- if $nats.credentials.secret }}
- --nats-creds=/etc/nats/credentials/{{ $nats.credentials.key }}
{{- end }}
{{- if $nats.password.secret }}
- {{ printf "--nats-user=%s" $nats.password.user | quote }}
- --nats-password-file=/etc/nats/password/{{ $nats.password.key }}
{{- end }}
{{- if $nats.token.secret }}
- --nats-token-file=/etc/nats/token/{{ $nats.token.key }}
{{- end }}
{{- if or $nats.ca.secret $nats.ca.configMap }}
- --nats-ca=/etc/nats/ca/{{ $nats.ca.key }}
{{- end }}
{{- if $nats.clientCertificate.secret }}
- --nats-cert=/etc/nats/client-certificate/tls.crt
- --nats-key=/etc/nats/client-certificate/tls.key
{{- end }}
{{- with $nats.domain }}
- {{ printf "--nats-domain=%s" . | quote }}
{{- end }}
{{- range .Values.extraArgs }}
- {{ . | quote }}
{{- end }}
{{- end }}

{{/* What is mounted, by the name of its volume: whole directories, because a changed Secret does not reach a subPath. */}}
{{- define "auditstream-operator.secrets" -}}
{{- $nats := .Values.nats -}}
{{- with $nats.credentials.secret }}
nats-credentials: {secret: {{ . | quote }}, path: /etc/nats/credentials}
{{- end }}
{{- with $nats.password.secret }}
nats-password: {secret: {{ . | quote }}, path: /etc/nats/password}
{{- end }}
{{- with $nats.token.secret }}
nats-token: {secret: {{ . | quote }}, path: /etc/nats/token}
{{- end }}
{{- with $nats.ca.secret }}
nats-ca: {secret: {{ . | quote }}, path: /etc/nats/ca}
{{- end }}
{{- with $nats.ca.configMap }}
nats-ca: {configMap: {{ . | quote }}, path: /etc/nats/ca}
{{- end }}
{{- with $nats.clientCertificate.secret }}
nats-client-certificate: {secret: {{ . | quote }}, path: /etc/nats/client-certificate}
{{- end }}
{{- if and .Values.metrics.enabled .Values.metrics.certificateSecret }}
metrics-certificate: {secret: {{ .Values.metrics.certificateSecret | quote }}, path: /etc/auditstream-operator/metrics}
{{- end }}
{{- end }}

{{- define "auditstream-operator.volumeMounts" -}}
{{- range $name, $secret := include "auditstream-operator.secrets" . | fromYaml }}
- name: {{ $name }}
  mountPath: {{ $secret.path }}
  readOnly: true
{{- end }}
{{- end }}

{{- define "auditstream-operator.volumes" -}}
{{- range $name, $source := include "auditstream-operator.secrets" . | fromYaml }}
- name: {{ $name }}
  {{- if $source.configMap }}
  configMap:
    name: {{ $source.configMap | quote }}
  {{- else }}
  secret:
    secretName: {{ $source.secret | quote }}
  {{- end }}
{{- end }}
{{- end }}
