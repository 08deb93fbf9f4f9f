{{- /* What objects are called: the release's name, which says what it is. */ -}}
{{- define "starling.name" -}}
{{- if contains "starling" .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-starling" .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- /* By these the operator's pods are found; they never change. Servers' pods have another name. */ -}}
{{- define "starling.selector" -}}
app.kubernetes.io/name: starling-operator
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "starling.labels" -}}
{{ include "starling.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{- end -}}

{{- define "starling.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{- .Values.serviceAccount.name | default (include "starling.name" .) -}}
{{- else -}}
{{- .Values.serviceAccount.name | default "default" -}}
{{- end -}}
{{- end -}}

{{- define "starling.image" -}}
{{- $image := printf "%s:%s" .Values.image.repository (.Values.image.tag | default .Chart.AppVersion) -}}
{{- with .Values.image.digest }}{{ $image = printf "%s@%s" $image . }}{{ end -}}
{{- $image -}}
{{- end -}}

{{- define "starling.serverImage" -}}
{{- .Values.serverImage | default (printf "%s:%s" (regexReplaceAll "[^/]+$" .Values.image.repository "starlingd") .Chart.AppVersion) -}}
{{- end -}}

{{- /* Whom roles are given to. */ -}}
{{- define "starling.subject" -}}
- kind: ServiceAccount
  name: {{ include "starling.serviceAccount" . }}
  namespace: {{ .Release.Namespace }}
{{- end -}}

{{- /* What a container of the level `restricted` may not do. */ -}}
{{- define "starling.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
runAsNonRoot: true
capabilities: {drop: [ALL]}
{{- end -}}

{{- define "starling.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
seccompProfile: {type: RuntimeDefault}
{{- end -}}
