package report

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "rewrite testdata/report.txt")

// exampleLog is a small run on two hosts with failures, retries and a terminated host.
func exampleLog() []string {
	at := func(seconds float64) string {
		return time.Date(2026, 11, 23, 8, 0, 0, 0, time.UTC).Add(time.Duration(seconds * 1e9)).Format("2006-01-02T15:04:05.000000")
	}
	var lines []string
	for i := range 40 {
		kind, more := "completed", `,"result":"ok"`
		retry := false
		switch i % 10 {
		case 3:
			kind, more, retry = "exited", fmt.Sprintf(`,"exit_code":7,"stderr_line":"no space on /mnt/disk%d (%d bytes)"`, i, i*1000), i < 20
		case 7:
			kind, more = "exception", fmt.Sprintf(`,"exception":"Traceback (most recent call last):\n  File \"/a.py\", line 1, in f\nValueError: task t%d: bad value 0x%x"`, i, i+200)
		}
		attempt := 1
		if i == 38 || i == 39 {
			attempt = 2
		}
		lines = append(lines, fmt.Sprintf(`{"timestamp":"%s","hostname":"node%d","event_type":"task_%s","task_id":"t%d","elapsed_time":%d,"retry":%v%s,"attempt":%d,"slot":%d,"usage":{"cpu_seconds":%d,"peak_memory_bytes":%d},"run_id":"run%d"}`,
			at(float64(10+i*10)), i%2, kind, i, 5+i%20, retry, more, attempt, i/2%2, 4+i%20, (1+i%5)<<27, i%2))
	}
	lines = append(lines,
		fmt.Sprintf(`{"timestamp":"%s","hostname":"node1","event_type":"spot_termination","kind":"termination","action":"terminate","deadline":"%s"}`, at(405), at(525)),
		fmt.Sprintf(`{"timestamp":"%s","hostname":"node0","event_type":"non_fatal_exception","exception":"malformed message: not JSON"}`, at(406)),
		fmt.Sprintf(`{"timestamp":"%s","hostname":"node1","event_type":"task_completed","task_id":"t40","elapsed_time":30,"retry":false,"result":1,"attempt":1,"slot":0,"run_id":"run1"}`, at(425)),
	)
	return lines
}

func TestWriteText(t *testing.T) {
	t.Parallel()
	var got bytes.Buffer
	if err := build(t, Options{Price: 0.36, Logs: []string{"events.log", "node 1.log"}}, exampleLog()...).WriteText(&got); err != nil {
		t.Fatal(err)
	}
	const name = "testdata/report.txt"
	if *update {
		if err := os.WriteFile(name, got.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if got.String() != string(want) {
		t.Errorf("got\n%s\nwant\n%s\nTo accept the new text, run the test with -update.", got.String(), want)
	}
}

func TestReport_Spot(t *testing.T) {
	t.Parallel()
	r := build(t, Options{Price: 0.36}, exampleLog()...)
	if len(r.Spot) != 1 {
		t.Fatalf("notices: %+v", r.Spot)
	}
	n := r.Spot[0]
	// Slot 1 of node1 ended its last task at 400 s, before the notice; slot 0 at 425 s. The machine lived until 525 s.
	if n.FinishedAfter != 1 || n.SlotsCut != 1 || n.LostSeconds != 125+100 || n.Host != "node1" {
		t.Errorf("notice %+v", n)
	}
	if r.Hosts[0].MachineSeconds != 525-14 || !r.Hosts[0].Terminated {
		t.Errorf("host %+v", r.Hosts[0])
	}
	if want := 0.36 * 225 / 3600 / 2; n.LostCost < want*0.999 || n.LostCost > want*1.001 || r.Cost.Interrupted != n.LostCost {
		t.Errorf("lost %v, interrupted %v, want %v", n.LostCost, r.Cost.Interrupted, want)
	}
	if r.Summary.Unfinished != 0 || r.Summary.AttemptsBy.Retried != 2 {
		t.Errorf("summary %+v", r.Summary)
	}
}

func TestReport_Reruns(t *testing.T) {
	t.Parallel()
	const format = `{"timestamp":"2026-11-23T08:00:%02d","hostname":"h","event_type":"task_%s","task_id":"%s","elapsed_time":1,"retry":%v,"attempt":%d,"slot":0%s}`
	r := build(t, Options{},
		fmt.Sprintf(format, 1, "completed", "a", false, 1, ""),
		fmt.Sprintf(format, 2, "exited", "b", false, 1, ""),
		fmt.Sprintf(format, 3, "exited", "c", false, 1, ""),
		fmt.Sprintf(format, 4, "exited", "b", true, 2, `,"rerun":true`),
		fmt.Sprintf(format, 5, "completed", "b", false, 3, `,"rerun":true`),
		fmt.Sprintf(format, 6, "exited", "d", true, 1, ""),
	)
	s := r.Summary
	if s.Tasks != 3 || s.Completed != 2 || s.Failed != 1 || s.Attempts != 6 || s.Rerun != 1 || s.WithoutEvent != 0 {
		t.Errorf("summary %+v", s)
	}
}

func TestReport_UnusualLogs(t *testing.T) {
	t.Parallel()
	event := func(time string, more string) string {
		return `{"timestamp":"` + time + `","hostname":"h","event_type":"task_completed","task_id":"t"` + more + `}`
	}
	const normal = `,"elapsed_time":2,"retry":false`
	for _, tc := range []struct {
		name  string
		lines []string
		check func(*Report) bool
	}{
		{"no event", nil, func(r *Report) bool { return r.Summary.Attempts == 0 && r.Cost == nil }},
		{"only keep_alive", []string{`{"timestamp":"2026-11-23T08:00:00","hostname":"h","event_type":"keep_alive"}`}, func(r *Report) bool { return r.Summary.Hosts == 1 }},
		{"one event", []string{event("2026-11-23T08:00:00", normal)}, func(r *Report) bool { return r.Summary.ActiveSeconds == 2 && r.Cost.Total > 0 }},
		{"no timestamp", []string{event("yesterday", normal)}, func(r *Report) bool { return r.Summary.Tasks == 1 && len(r.Notes) > 0 }},
		{"no elapsed_time", []string{event("2026-11-23T08:00:00", `,"retry":false`)}, func(r *Report) bool { return r.Summary.Tasks == 1 && r.Duration == nil }},
		{"absurd numbers", []string{event("2026-11-23T08:00:00", `,"elapsed_time":1e300,"retry":false,"slot":1e18,"attempt":1,"usage":{"cpu_seconds":-1,"peak_memory_bytes":1e99}`)}, func(r *Report) bool { return r.Duration == nil && r.Memory == nil }},
		{"fields of other types", []string{event("2026-11-23T08:00:00", `,"elapsed_time":"2","retry":false,"slot":[],"usage":7,"run_id":{},"result":null`)}, func(r *Report) bool { return r.Summary.Tasks == 1 }},
		{"one hour back", []string{event("2026-11-23T08:00:00", normal), event("2026-11-23T07:00:00", normal)}, func(r *Report) bool { return strings.Contains(strings.Join(r.Notes, " "), "clock") }},
		{"jump to 1970 and 2099", []string{event("2026-11-23T08:00:00", normal), event("1970-01-01T00:00:00", normal), event("2099-11-23T08:00:00", normal), event("2026-11-23T08:00:02", normal)},
			func(r *Report) bool { return r.Summary.MachineSeconds < 10 && r.Time.BucketSeconds < 1 }},
		{"next day", []string{event("2026-11-23T08:00:00", normal+`,"run_id":"a"`), event("2026-11-24T07:00:00", normal+`,"run_id":"b"`)},
			func(r *Report) bool { return r.Summary.MachineSeconds == 4 && len(r.Time.segments) == 2 }},
		{"without slot", []string{event("2026-11-23T08:00:02", normal), event("2026-11-23T08:00:03", normal), event("2026-11-23T08:00:05", normal)},
			func(r *Report) bool { return r.Summary.Slots == 2 && len(r.timeline.rows) == 2 }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			r := build(t, Options{Price: 1, Logs: []string{"events.log"}}, tc.lines...)
			if !tc.check(r) {
				t.Errorf("summary %+v, notes %q, cost %+v, %v", r.Summary, r.Notes, r.Cost, r.Time)
			}
			writeAll(t, r)
		})
	}
}

// writeAll writes the report in all formats, and returns the HTML page.
func writeAll(t *testing.T, r *Report) string {
	t.Helper()
	var page, text bytes.Buffer
	if err := r.WriteHTML(&page); err != nil {
		t.Fatal(err)
	}
	if err := r.WriteText(&text); err != nil {
		t.Fatal(err)
	}
	if _, err := json.Marshal(r); err != nil {
		t.Fatal(err)
	}
	if wrong := regexp.MustCompile(`[^a-zA-Z+/](NaN|[+-]?Inf)[^a-zA-Z]`).FindString(page.String() + text.String()); wrong != "" {
		t.Errorf("the report contains %q", wrong)
	}
	return page.String()
}

func TestReport_HostileTexts(t *testing.T) {
	t.Parallel()
	hostile := `"'></text></svg><script>alert(1)</script><img src=x onerror=alert(2)>` + "\u202e\u0085\x1b[31m{{.}}"
	quoted, _ := json.Marshal(hostile + strings.Repeat("A", 300_000))
	var lines []string
	for i := range 20 {
		lines = append(lines, fmt.Sprintf(`{"timestamp":"2026-11-23T08:00:%02d","hostname":%[2]s,"event_type":"task_exception","task_id":%[2]s,"elapsed_time":2,"retry":false,"exception":%[2]s,"slot":1,"run_id":%[2]s}`, i*2, quoted))
	}
	for _, kind := range []string{"spot_termination", "fatal_exception"} {
		lines = append(lines, fmt.Sprintf(`{"timestamp":"2026-11-23T08:00:40","hostname":%[2]s,"event_type":"%[1]s","exception":%[2]s,"kind":%[2]s,"action":%[2]s,"deadline":%[2]s}`, kind, quoted))
	}
	page := writeAll(t, build(t, Options{Logs: []string{hostile}}, lines...))
	for _, wrong := range []string{"<script>alert", "<img", "\u202e", "\u0085", "\x1b", "</text></svg><script"} {
		if strings.Contains(page, wrong) {
			t.Errorf("the page contains %q", wrong)
		}
	}
	if n := strings.Count(page, "<script"); n != 1 {
		t.Errorf("%d scripts", n)
	}
	if len(page) > 300_000 {
		t.Errorf("the page has %d bytes", len(page))
	}
}

// The page loads nothing, and its policy permits exactly its own style and script.
func TestWriteHTML_Policy(t *testing.T) {
	t.Parallel()
	page := writeAll(t, build(t, Options{}, exampleLog()...))
	for _, element := range []string{"style", "script"} {
		m := regexp.MustCompile(`(?s)<` + element + `>(.*?)</` + element + `>`).FindStringSubmatch(page)
		if m == nil {
			t.Fatalf("no %s", element)
		}
		if want := element + "-src &#39;" + strings.ReplaceAll(hashOf(m[1]), "+", "&#43;") + "&#39;"; !strings.Contains(page, want) {
			t.Errorf("the policy does not contain %s", want)
		}
	}
	if !strings.Contains(page, `content="default-src &#39;none&#39;;`) {
		t.Error("the policy permits more")
	}
	if m := regexp.MustCompile(`(?:src|href|url)\s*[=(]\s*["']?[a-z]+:[^"')]*|style="`).FindAllString(page, -1); len(m) != 1 || m[0] != `href="data:,` {
		t.Errorf("references: %q", m)
	}
}

// The size of the page and the memory have a limit, whatever the log contains.
func TestReport_Limits(t *testing.T) {
	t.Parallel()
	b := NewBuilder(Options{Price: 1})
	var log strings.Builder
	start := time.Date(2026, 11, 23, 8, 0, 0, 0, time.UTC)
	for i := range 60_000 {
		kind := []string{"completed", "exception", "exited"}[i%3]
		_, _ = fmt.Fprintf(&log, `{"timestamp":"%s","hostname":"%s%d","event_type":"task_%s","task_id":"%s%d","elapsed_time":%d,"retry":false,"exception":"%s","slot":%d,"run_id":"%d"}`+"\n",
			start.Add(time.Duration(i)*37*time.Second).Format("2006-01-02T15:04:05.000000"), strings.Repeat("h", 90), i%5000, kind, strings.Repeat("<", 90), i,
			i*7919%5000, words(i), i*31%100_000, i%9000)
		if i%50 == 0 {
			_, _ = fmt.Fprintf(&log, `{"timestamp":"%s","hostname":"%s%d","event_type":"spot_termination"}`+"\n", start.Add(time.Duration(i)*37*time.Second).Format("2006-01-02T15:04:05"), strings.Repeat("h", 90), i%5000)
		}
	}
	if _, err := b.Read(t.Context(), strings.NewReader(log.String())); err != nil {
		t.Fatal(err)
	}
	if n := len(b.groups.all); n > maxGroups {
		t.Errorf("%d groups", n)
	}
	if n := len(b.workers.hosts); n > maxHosts+1 {
		t.Errorf("%d hosts", n)
	}
	if n := len(b.workers.all); n > maxWorkers+maxHosts {
		t.Errorf("%d workers", n)
	}
	if b.workers.slots > maxTrackedSlots || len(b.lanes.all) > maxLanes || len(b.lanes.exact) > maxExact || len(b.workers.notices) > maxNotices {
		t.Errorf("%d slots, %d lanes, %d attempts, %d notices", b.workers.slots, len(b.lanes.all), len(b.lanes.exact), len(b.workers.notices))
	}
	r := b.Report()
	if r.Summary.Attempts != 60_000 {
		t.Errorf("%d attempts", r.Summary.Attempts)
	}
	if n := len(writeAll(t, r)); n > 2_000_000 {
		t.Errorf("the page has %d bytes", n)
	}
}

// words returns a message that is different for each n.
func words(n int) string {
	text := ""
	for range 6 {
		text += string(rune('g'+n%11)) + strings.Repeat("z", n%5) + " "
		n = n*7 + n/11
	}
	return text + strings.Map(func(r rune) rune { return 'g' + r - '0' }, fmt.Sprint(n))
}

func TestRead_Damage(t *testing.T) {
	t.Parallel()
	b := NewBuilder(Options{})
	log := exampleLog()[0] + "\n\nnot JSON\n{\"event_type\":1}\n" + exampleLog()[1] + "\r\n" + exampleLog()[2][:60]
	damage, err := b.Read(t.Context(), strings.NewReader(log))
	if err != nil || damage.Events != 2 || damage.Count != 2 || !damage.Torn || fmt.Sprint(damage.Lines) != "[3 4]" {
		t.Errorf("damage %+v, error %v", damage, err)
	}
	if r := b.Report(); r.Summary.Attempts != 2 {
		t.Errorf("%d attempts", r.Summary.Attempts)
	}
}

func TestNormalize(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"":                                        "",
		"cannot read frame12.fits":                "cannot read frame<n>.fits",
		"cannot open /data/in/3/a.txt: denied":    "cannot open <path>: denied",
		`File "/app/x.py", line 42`:               `File "<path>", line <n>`,
		"/a/b.py:12: warning":                     "<path>:<n>: warning",
		"open ../x, ./y and ~/z.":                 "open <path>, <path> and <path>.",
		`C:\Users\x\a.txt is missing`:             "<path> is missing",
		"GET https://example.org/a?b=1 failed":    "GET <url> failed",
		"s3://bucket/key: 503":                    "<url>: <n>",
		"pointer 0xdeadBEEF0 is invalid":          "pointer <hex> is invalid",
		"object at 7f3a9c001d20 leaked":           "object at <hex> leaked",
		"id 123e4567-e89b-12d3-a456-426614174000": "id <hex>",
		"took 1.5e-9 s of 10:30:05, 1,000 times":  "took <n> s of <n>, <n> times",
		"defaced facade":                          "defaced facade",
		"and/or either/or":                        "and/or either/or",
		"a.b.c: no such key":                      "a.b.c: no such key",
		"100 % of 50%":                            "<n> % of <n>%",
		"größe 5 µs":                              "größe <n> µs",
		"\xff\xfe 7":                              "\xff\xfe <n>",
	} {
		if got := normalize(text); got != want {
			t.Errorf("normalize(%q) is %q, want %q", text, got, want)
		}
	}
}

func FuzzReport(f *testing.F) {
	for _, line := range exampleLog() {
		f.Add([]byte(line))
	}
	f.Add([]byte(strings.Join(exampleLog(), "\n")))
	f.Fuzz(func(t *testing.T, log []byte) {
		b := NewBuilder(Options{Price: 1})
		if _, err := b.Read(t.Context(), bytes.NewReader(log)); err != nil {
			t.Fatal(err)
		}
		writeAll(t, b.Report())
	})
}
