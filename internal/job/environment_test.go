package job

import "testing"

func TestWithLoopback(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ hosts, want string }{
		{"", "127.0.0.1"},
		{" ", "127.0.0.1"},
		{".corp.example", ".corp.example,127.0.0.1"},
		{"127.0.0.1", "127.0.0.1"},
		{"git.acme.example, 127.0.0.1 ,.corp.example", "git.acme.example, 127.0.0.1 ,.corp.example"},
		{"127.0.0.10,x127.0.0.1", "127.0.0.10,x127.0.0.1,127.0.0.1"},
		{"127.0.0.1:8080", "127.0.0.1:8080,127.0.0.1"},
		{"*", "*"},
		{" * ", " * "},
		{"*.corp.example", "*.corp.example,127.0.0.1"},
	} {
		if got := withLoopback(tt.hosts); got != tt.want {
			t.Errorf("%q becomes %q, want %q", tt.hosts, got, tt.want)
		}
	}
}
