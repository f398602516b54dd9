{{/* What the schema cannot say: contradictions between values. */}}
{{- define "auditstream-operator.validate" -}}
{{- $nats := .Values.nats -}}
{{- $ways := list -}}
{{- if $nats.credentials.secret }}{{ $ways = append $ways "nats.credentials" }}{{ end -}}
{{- if or $nats.password.user $nats.password.secret }}{{ $ways = append $ways "nats.password" }}{{ end -}}
{{- if $nats.token.secret }}{{ $ways = append $ways "nats.token" }}{{ end -}}
{{- if gt (len $ways) 1 -}}
{{- fail (printf "%s contradict each other: set one of them" (join " and " $ways)) -}}
{{- end -}}
{{- if ne (empty $nats.password.user) (empty $nats.password.secret) -}}
{{- fail (printf "nats.password.user is %q and nats.password.secret is %q: set both or neither" $nats.password.user $nats.password.secret) -}}
{{- end -}}
{{- if and $nats.ca.secret $nats.ca.configMap -}}
{{- fail (printf "nats.ca.secret is %q and nats.ca.configMap is %q: set one of them" $nats.ca.secret $nats.ca.configMap) -}}
{{- end -}}
{{- with .Values.resyncInterval -}}
{{- $start := mustToDate "2006" "2000" -}}
{{- if lt ((mustDateModify . $start).Sub $start).Seconds 10.0 }}{{ fail (printf "resyncInterval is %s: give at least 10s" .) }}{{ end -}}
{{- end -}}
{{- /* The schema does not see a null, with which helm takes the value away. */}}
{{- if and .Values.networkPolicy.enabled .Values.metrics.enabled (not .Values.networkPolicy.from) -}}
{{- fail "networkPolicy.from is empty, which would let in everybody: name who reaches the metrics" -}}
{{- end -}}
{{- if not .Values.metrics.enabled -}}
{{- if .Values.metrics.serviceMonitor.enabled }}{{ fail "metrics.serviceMonitor.enabled needs metrics.enabled: set both or neither" }}{{ end -}}
{{- if .Values.metrics.prometheusRule.enabled }}{{ fail "metrics.prometheusRule.enabled needs metrics.enabled: set both or neither" }}{{ end -}}
{{- end -}}
{{- end }}
