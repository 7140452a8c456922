{{- define "chronik.name" -}}
{{- if contains "chronik" .Release.Name -}}
{{ printf "%s-operator" .Release.Name | trunc 63 | trimSuffix "-" }}
{{- else -}}
{{ printf "%s-chronik-operator" .Release.Name | trunc 63 | trimSuffix "-" }}
{{- end -}}
{{- end -}}

{{- define "chronik.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}

{{- define "chronik.selector" -}}
app.kubernetes.io/name: chronik-operator
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "chronik.labels" -}}
{{ include "chronik.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end -}}

{{- /* What a Service may be called is less than what a release may be. */ -}}
{{- define "chronik.service" -}}
{{- $name := include "chronik.name" . | replace "." "-" -}}
{{- if regexMatch "^[0-9]" $name }}{{ printf "chronik-%s" $name | trunc 63 | trimSuffix "-" }}{{ else }}{{ $name }}{{ end -}}
{{- end -}}

{{- /* Tokens are reviewed for the whole Kubernetes cluster or not at all: a Role cannot allow it. */ -}}
{{- define "chronik.announcements" -}}
{{- if and .Values.announcements (eq .Values.scope "cluster") -}}true{{- end -}}
{{- end -}}
