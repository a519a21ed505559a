{{- define "funnelwatch.fullname" -}}
{{- if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "funnelwatch.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "funnelwatch.labels" -}}
{{ include "funnelwatch.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{- define "funnelwatch.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}
{{- end -}}

{{- define "funnelwatch.serviceAccount" -}}
{{- .Values.serviceAccount.name | default (ternary (include "funnelwatch.fullname" .) "default" .Values.serviceAccount.create) -}}
{{- end -}}

{{- define "funnelwatch.configMap" -}}
{{- .Values.existingConfigMap | default (include "funnelwatch.fullname" .) -}}
{{- end -}}

{{/* The text of the config file, however it was given. */}}
{{- define "funnelwatch.config" -}}
{{- if kindIs "string" .Values.config -}}{{ .Values.config }}{{- else -}}{{ toYaml .Values.config }}{{- end -}}
{{- end -}}

{{- define "funnelwatch.maxReplicas" -}}
{{- .Values.autoscaling.maxReplicas | default .Values.partitions -}}
{{- end -}}

{{/* A number as a person writes it: Helm's own 4000000 is 4e+06. */}}
{{- define "funnelwatch.scalar" -}}
{{- if and (kindIs "float64" .) (eq (floor .) .) -}}{{ int64 . | quote }}{{- else -}}{{ toString . | quote }}{{- end -}}
{{- end -}}

{{/* The security context of a container that may do nothing but run. */}}
{{- define "funnelwatch.containerSecurity" -}}
allowPrivilegeEscalation: false
capabilities: {drop: [ALL]}
readOnlyRootFilesystem: true
{{- end -}}

{{- define "funnelwatch.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{/* What a schema cannot say: how values stand to each other. */}}
{{- define "funnelwatch.check" -}}
{{- $config := include "funnelwatch.config" . | trim -}}
{{- if and (not $config) (not .Values.existingConfigMap) -}}
{{- fail "config is empty: --set-file config=funnel.yaml, or name an existingConfigMap" -}}
{{- end -}}
{{- if and $config .Values.existingConfigMap -}}
{{- fail "config and existingConfigMap are both set: leave one of them out" -}}
{{- end -}}
{{- if and .Values.secretSettings (not .Values.existingSecret) -}}
{{- fail "secretSettings name keys of existingSecret, which is not set" -}}
{{- end -}}
{{- range $name, $_ := .Values.secretSettings -}}
{{- if hasKey $.Values.settings $name -}}
{{- fail (printf "%s is in settings and in secretSettings: leave it in one of them" $name) -}}
{{- end -}}
{{- end -}}
{{- if .Values.autoscaling.enabled -}}
{{- if not .Values.autoscaling.prometheus -}}
{{- fail "autoscaling.prometheus is not set: the address of the Prometheus that scrapes the workers" -}}
{{- end -}}
{{- $most := include "funnelwatch.maxReplicas" . | int -}}
{{- if gt $most (int .Values.partitions) -}}
{{- fail (printf "autoscaling.maxReplicas is %d, but there are %d partitions: more workers than that have nothing to do" $most (int .Values.partitions)) -}}
{{- end -}}
{{- if gt (int .Values.autoscaling.minReplicas) $most -}}
{{- fail (printf "autoscaling.minReplicas is %d, more than the %d it may grow to" (int .Values.autoscaling.minReplicas) $most) -}}
{{- end -}}
{{- else if gt (int .Values.replicas) (int .Values.partitions) -}}
{{- fail (printf "replicas is %d, but there are %d partitions: more workers than that have nothing to do" (int .Values.replicas) (int .Values.partitions)) -}}
{{- end -}}
{{- if .Values.ingress.enabled -}}
{{- if not .Values.ingress.host -}}
{{- fail "ingress.host is not set: the name by which the page is reached" -}}
{{- end -}}
{{- if and $config (not (regexMatch "(?m)^access:" $config)) (not .Values.ingress.allowOpen) -}}
{{- fail "the config has no `access`: everybody who reaches the ingress could read every number; add tokens, or set ingress.allowOpen=true" -}}
{{- end -}}
{{- end -}}
{{- if and .Values.serviceMonitor.tokenKey (not .Values.existingSecret) -}}
{{- fail "serviceMonitor.tokenKey is a key of existingSecret, which is not set" -}}
{{- end -}}
{{- end -}}
