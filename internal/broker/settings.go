package broker

import (
	"maps"
	"strings"
)

// fix gives a setting its value, in the place of the client's own by that name in
// any case.
func fix[V any](settings map[string]V, name string, value V) {
	maps.DeleteFunc(settings, func(own string, _ V) bool { return strings.EqualFold(own, name) })
	settings[name] = value
}
