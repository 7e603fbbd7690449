{{- define "phiproxy.name" -}}{{ .Release.Name | trunc 50 | trimSuffix "-" }}{{- end }}
{{- define "phiproxy.selector" -}}
app.kubernetes.io/name: phiproxy
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}
{{- define "phiproxy.labels" -}}
{{ include "phiproxy.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}
{{- define "phiproxy.account" -}}{{ .Values.serviceAccount.name | default (include "phiproxy.name" .) }}{{- end }}
{{- /* Files are mounted where no subPath hides renewals; policies and certificates are read again by SIGHUP. */}}
{{- define "phiproxy.config" -}}
{{- $limits := merge (dict "drain_timeout" (printf "%ds" (int .Values.drainTimeout))) (.Values.config.limits | default dict) }}
{{- $policies := list }}
{{- range $name, $_ := .Values.policies }}{{ $policies = append $policies $name }}{{ end }}
{{- $added := dict "listen" "0.0.0.0:6432" "metrics" (dict "listen" "0.0.0.0:9187") "policies" $policies "limits" $limits
    "tls" (dict "mode" "require" "certificate" "/mnt/phiproxy/tls/tls.crt" "private_key" "/mnt/phiproxy/tls/tls.key") }}
{{- toYaml (mergeOverwrite (deepCopy .Values.config) $added) }}
{{- end }}
