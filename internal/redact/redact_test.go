package redact_test

import (
	"errors"
	"fmt"
	"io"
	"testing"

	"github.com/ctworker/ctworker/internal/redact"
)

func ExampleURL() {
	fmt.Println(redact.URL("https://bob:PASSW0RD@example.org/tasks.json?sig=TOPSECRET"))
	// Output: https://bob:xxxxx@example.org/tasks.json?sig=xxxxx
}

func TestURL(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ address, want string }{
		{"", ""},
		{"tasks.json", "tasks.json"},
		{"a@b?c=d#e", "a@b?c=d#e"},
		{"dir/a://b@c", "dir/a://b@c"},
		{"-", "-"},
		{"https://host/path", "https://host/path"},
		{"https://host", "https://host"},
		{"https://host:8080/a@b", "https://host:8080/a@b"},
		{"s3://bucket/key", "s3://bucket/key"},
		{"https://bob:pw@host/x", "https://bob:xxxxx@host/x"},
		{"https://bob:p@w@host/x", "https://bob:xxxxx@host/x"},
		{"https://bob:p/w@host/x", "https://bob:xxxxx@host/x"},
		{"https://:pw@host/x", "https://:xxxxx@host/x"},
		{"https://token@host/x", "https://xxxxx@host/x"},
		{"https://token:@host/x", "https://xxxxx:@host/x"},
		{"HTTPS://bob:pw@host", "HTTPS://bob:xxxxx@host"},
		{"postgres://bob:pw@host/db", "postgres://bob:xxxxx@host/db"},
		{"s3://id:secret@bucket/key", "s3://id:xxxxx@bucket/key"},
		{"https://bob:%zz@host/x?sig=%zz", "https://bob:xxxxx@host/x?sig=xxxxx"},
		{"https://host/x?X-Amz-Signature=a&X-Amz-Credential=b&X-Amz-Security-Token=c", "https://host/x?X-Amz-Signature=xxxxx&X-Amz-Credential=xxxxx&X-Amz-Security-Token=xxxxx"},
		{"https://host/x?X-Goog-Signature=a", "https://host/x?X-Goog-Signature=xxxxx"},
		{"https://host/x?token=a=b&empty=&flag", "https://host/x?token=xxxxx&empty=&xxxxx"},
		{"https://host/x?TOPSECRET", "https://host/x?xxxxx"},
		{"https://host?sig=a", "https://host?sig=xxxxx"},
		{"https://host/x#access_token=a", "https://host/x#xxxxx"},
		{"https://host/x?a=b#c", "https://host/x?a=xxxxx#xxxxx"},
		{"https://host/x?", "https://host/x?"},
	} {
		if got := redact.URL(c.address); got != c.want {
			t.Errorf("URL(%q) = %q, want %q", c.address, got, c.want)
		}
		if got := redact.URL(redact.URL(c.address)); got != c.want {
			t.Errorf("masking twice: %q, want %q", got, c.want)
		}
	}
}

func TestText(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ text, want string }{
		{"no address", "no address"},
		{`Get "https://a:b@h/x?sig=s": EOF`, `Get "https://a:xxxxx@h/x?sig=xxxxx": EOF`},
		{"two: https://a:b@h, (http://h/?k=v).", "two: https://a:xxxxx@h, (http://h/?k=xxxxx)."},
		{`{"url":"https://h/?k=v"}`, `{"url":"https://h/?k=xxxxx"}`},
		{`"{\"url\":\"https://h/?k=v\"}"`, `"{\"url\":\"https://h/?k=xxxxx\"}"`},
		{"--task-file=https://a:b@h/x", "--task-file=https://a:xxxxx@h/x"},
		{"a line\nhttps://t@h\nanother", "a line\nhttps://xxxxx@h\nanother"},
	} {
		if got := redact.Text(c.text); got != c.want {
			t.Errorf("Text(%q) = %q, want %q", c.text, got, c.want)
		}
	}
}

func TestError(t *testing.T) {
	t.Parallel()
	if redact.Error(nil) != nil {
		t.Error("Error(nil) is not nil")
	}
	if err := redact.Error(io.EOF); err != io.EOF {
		t.Errorf("an error without an address became %v", err)
	}
	wrapped := fmt.Errorf("https://a:b@h: %w", io.EOF)
	if err := redact.Error(wrapped); err.Error() != "https://a:xxxxx@h: EOF" || !errors.Is(err, io.EOF) || !errors.Is(err, wrapped) {
		t.Errorf("got %v", err)
	}
}
