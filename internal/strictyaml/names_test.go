package strictyaml

import "testing"

func TestMeant(t *testing.T) {
	t.Parallel()
	synonyms := Synonyms{"targets": {"outputs", "environments"}}
	names := []string{"version", "targets", "max_lifetime"}
	for _, tt := range []struct{ text, want string }{
		{"targets", "targets"}, {"Targets", "targets"}, {"max-lifetime", "max_lifetime"}, // letter case and hyphens
		{"outputs", "targets"}, {"Outputs", "targets"}, // another name
		{"tragets", "targets"}, {"versionn", "version"}, {"max_lifetme", "max_lifetime"}, // misspelt
		{"", ""}, {"xyz", ""}, {"outputz", ""},
	} {
		if got := synonyms.Meant(tt.text, names); got != tt.want {
			t.Errorf("%q: %q, want %q", tt.text, got, tt.want)
		}
	}
	if got, want := synonyms.DidYouMean("tragets", names), `: did you mean "targets"?`; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestDistance(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		a, b string
		want int
	}{
		{"", "", 0}, {"", "abc", 3}, {"abc", "abc", 0}, {"abc", "acb", 1}, {"abc", "ac", 1}, {"abc", "abxc", 1}, {"abc", "axc", 1}, {"kitten", "sitting", 3}, {"ca", "abc", 3}, {"größe", "grösse", 2},
	} {
		if got, back := distance(tt.a, tt.b), distance(tt.b, tt.a); got != tt.want || back != tt.want {
			t.Errorf("%q and %q: %d and %d, want %d", tt.a, tt.b, got, back, tt.want)
		}
	}
}
