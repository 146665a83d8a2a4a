package monitor

import (
	"bytes"
	"context"
	"io"
	"strings"
	"sync"
	"testing"

	tea "charm.land/bubbletea/v2"

	"github.com/ctworker/ctworker/internal/fleet"
)

// press returns a model after the keys. A key is a character or the name of a key.
func press(t *testing.T, keys ...string) *model {
	t.Helper()
	m := &model{view: View{Width: 80, Height: 24}, opts: Options{Snapshot: func() fleet.Snapshot { return *busy(30) }}}
	m.view.Printable = escape
	special := map[string]rune{"enter": tea.KeyEnter, "esc": tea.KeyEscape, "backspace": tea.KeyBackspace, "up": tea.KeyUp, "down": tea.KeyDown, "pgdown": tea.KeyPgDown, "pgup": tea.KeyPgUp, "home": tea.KeyHome, "end": tea.KeyEnd}
	for _, k := range keys {
		msg := tea.KeyPressMsg{Text: k, Code: []rune(k)[0]}
		if code, ok := special[k]; ok {
			msg = tea.KeyPressMsg{Code: code}
		}
		if k == "ctrl+c" {
			msg = tea.KeyPressMsg{Code: 'c', Mod: tea.ModCtrl}
		}
		_, _ = m.Update(msg)
		if v := m.View(); !v.AltScreen || v.Content == "" {
			t.Fatalf("view after %q: %+v", k, v)
		}
	}
	return m
}

func TestModel_Keys(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		keys []string
		want func(v View, quit bool) bool
	}{
		"q":               {[]string{"q"}, func(_ View, quit bool) bool { return quit }},
		"ctrl-c":          {[]string{"ctrl+c"}, func(_ View, quit bool) bool { return quit }},
		"ctrl-c in input": {[]string{"/", "ctrl+c"}, func(_ View, quit bool) bool { return quit }},
		"other keys":      {[]string{"x", "Q", "enter"}, func(_ View, quit bool) bool { return !quit }},
		"sort":            {[]string{"s"}, func(v View, _ bool) bool { return v.Sort == ByName }},
		"all orders":      {[]string{"s", "s", "s", "s"}, func(v View, _ bool) bool { return v.Sort == ByCondition }},
		"help":            {[]string{"?"}, func(v View, _ bool) bool { return v.Help }},
		"close help":      {[]string{"?", "?"}, func(v View, _ bool) bool { return !v.Help }},
		"filter":          {[]string{"/", "a", "q", "s", "enter"}, func(v View, quit bool) bool { return v.Filter == "aqs" && !v.Editing && !quit }},
		"edit filter":     {[]string{"/", "a", "é", "backspace", "b"}, func(v View, _ bool) bool { return v.Filter == "ab" && v.Editing }},
		"empty filter":    {[]string{"/", "backspace", "enter"}, func(v View, _ bool) bool { return v.Filter == "" && !v.Editing }},
		"cancel filter":   {[]string{"/", "a", "esc"}, func(v View, _ bool) bool { return v.Filter == "" && !v.Editing }},
		"remove filter":   {[]string{"/", "a", "enter", "esc"}, func(v View, _ bool) bool { return v.Filter == "" }},
		"hostile filter":  {[]string{"/", "\x1b[2J", strings.Repeat("x", 1000)}, func(v View, _ bool) bool { return v.Filter == "[2J"+strings.Repeat("x", maxFilter-3) }},
		"down":            {[]string{"down", "j", "j", "up"}, func(v View, _ bool) bool { return v.Offset == 2 }},
		"up at the top":   {[]string{"up", "pgup", "k"}, func(v View, _ bool) bool { return v.Offset == 0 }},
		"end":             {[]string{"end"}, func(v View, _ bool) bool { return v.Offset == 29 }},
		"end and up":      {[]string{"end", "up"}, func(v View, _ bool) bool { return v.Offset == 28 }},
		"home":            {[]string{"end", "home"}, func(v View, _ bool) bool { return v.Offset == 0 }},
		"page down":       {[]string{"pgdown"}, func(v View, _ bool) bool { return v.Offset == 12 }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := press(t, c.keys...)
			if !c.want(m.view, m.quit) {
				t.Errorf("after %q: quit %v, view %+v", c.keys, m.quit, m.view)
			}
		})
	}
}

func TestModel_Resize(t *testing.T) {
	t.Parallel()
	m := press(t, "s")
	_, _ = m.Update(tea.WindowSizeMsg{Width: 50, Height: 10})
	checkSize(t, m.View().Content, View{Width: 50, Height: 10})
}

// terminal is the output of a screen.
type terminal struct {
	mu    sync.Mutex
	b     bytes.Buffer
	drawn chan struct{} // closed when the screen has been drawn
	once  sync.Once
}

func (w *terminal) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	_, _ = w.b.Write(p)
	if strings.Contains(w.b.String(), "worker-") {
		w.once.Do(func() { close(w.drawn) })
	}
	return len(p), nil
}

func (w *terminal) String() string { w.mu.Lock(); defer w.mu.Unlock(); return w.b.String() }

// The screen ends when the user quits or the context is done. The terminal then shows its earlier content.
func TestRun(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(keys io.Writer, cancel func()){
		"q":       func(keys io.Writer, _ func()) { _, _ = io.WriteString(keys, "q") },
		"context": func(_ io.Writer, cancel func()) { cancel() },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			in, keys := io.Pipe()
			defer func() { _ = keys.Close() }()
			out := &terminal{drawn: make(chan struct{})}
			go func() {
				<-out.drawn
				end(keys, cancel)
			}()
			quit, err := Run(ctx, Options{
				Input: in, Output: out, Snapshot: func() fleet.Snapshot { return *busy(5) }, Message: func() string { return "a message" },
				View: View{Job: "images", Printable: escape, Width: 80, Height: 24},
			})
			_ = in.Close() // ends the reader of the keys
			if err != nil || quit != (name == "q") {
				t.Errorf("quit %v, error %v", quit, err)
			}
			const enter, leave = "\x1b[?1049h", "\x1b[?1049l"
			if text := out.String(); strings.Count(text, enter) != 1 || strings.Count(text, leave) != 1 || !strings.Contains(text, "a message") {
				t.Errorf("wrote %q", text)
			}
		})
	}
}

// A context that is done before the start ends the screen.
func TestRun_ContextIsDone(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	in, keys := io.Pipe()
	defer func() { _ = keys.Close() }()
	quit, err := Run(ctx, Options{Input: in, Output: io.Discard, Snapshot: func() fleet.Snapshot { return *busy(5) }, View: View{Printable: escape}})
	_ = in.Close()
	if quit || err != nil {
		t.Errorf("quit %v, error %v", quit, err)
	}
}
