{{- define "label.text" -}}
{{ .Values.global.prefix }}-{{ .Values.text }}
{{- end -}}
