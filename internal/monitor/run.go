package monitor

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"

	tea "charm.land/bubbletea/v2"

	"github.com/ctworker/ctworker/internal/fleet"
)

// refreshInterval is how often the screen is drawn.
const refreshInterval = 500 * time.Millisecond

// Options configures Run.
type Options struct {
	// Input is the terminal from which keys are read, and Output the terminal on which the screen is
	// drawn.
	Input  io.Reader
	Output io.Writer
	// Snapshot returns the current state, and Message the last line of the log.
	Snapshot func() fleet.Snapshot
	Message  func() string
	// View is the view at the start. Its size is used until the size of the terminal is known.
	View View
}

// Run shows the screen until ctx is done or the user quits. It returns whether the user has quit. The
// terminal has its earlier state when Run returns.
func Run(ctx context.Context, opts Options) (quit bool, err error) {
	m := &model{opts: opts, view: opts.View, began: time.Now()}
	p := tea.NewProgram(m, tea.WithInput(opts.Input), tea.WithOutput(opts.Output), tea.WithoutSignalHandler(), tea.WithFPS(20), tea.WithWindowSize(opts.View.Width, opts.View.Height))
	stop := context.AfterFunc(ctx, p.Quit) // not tea.WithContext, which would be reported as an error
	defer stop()
	// Not tea.Tick, whose goroutine survives the program.
	ended := make(chan struct{})
	var refresher sync.WaitGroup
	refresher.Go(func() { refresh(p, ended) })
	defer func() { close(ended); refresher.Wait() }()
	if _, err := p.Run(); err != nil && !errors.Is(err, tea.ErrInterrupted) {
		return m.quit, fmt.Errorf("terminal: %w", err)
	}
	return m.quit, nil
}

// model is the tea.Model of the screen. Package tea calls its methods from one goroutine.
type model struct {
	opts  Options
	view  View
	began time.Time
	quit  bool
}

// refreshMsg requests that the screen is drawn again.
type refreshMsg struct{}

// refresh requests regularly that the screen is drawn, until ended is closed.
func refresh(p *tea.Program, ended <-chan struct{}) {
	ticker := time.NewTicker(refreshInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			p.Send(refreshMsg{}) // returns when the program has ended
		case <-ended:
			return
		}
	}
}

// Init implements tea.Model.
func (m *model) Init() tea.Cmd { return nil }

// Update implements tea.Model.
func (m *model) Update(msg tea.Msg) (tea.Model, tea.Cmd) {
	switch msg := msg.(type) {
	case tea.WindowSizeMsg:
		m.view.Width, m.view.Height = msg.Width, msg.Height
	case tea.KeyPressMsg:
		return m, m.key(msg)
	}
	return m, nil
}

// View implements tea.Model.
func (m *model) View() tea.View {
	v := m.opts.Snapshot()
	m.view.Offset = min(m.view.Offset, max(len(m.view.selected(&v))-1, 0))
	o := m.view
	o.Elapsed = time.Since(m.began)
	if m.opts.Message != nil {
		o.Message = m.opts.Message()
	}
	view := tea.NewView(Draw(&v, o))
	view.AltScreen = true
	return view
}

// key handles a key.
func (m *model) key(k tea.KeyPressMsg) tea.Cmd {
	if k.String() == "ctrl+c" {
		m.quit = true
		return tea.Quit
	}
	if m.view.Editing {
		m.edit(k)
		return nil
	}
	page := max(m.view.Height/2, 1)
	switch k.String() {
	case "q":
		m.quit = true
		return tea.Quit
	case "ctrl+z":
		return tea.Suspend
	case "s":
		m.view.Sort, m.view.Offset = m.view.Sort.next(), 0
	case "/":
		m.view.Editing, m.view.Help, m.view.Filter, m.view.Offset = true, false, "", 0
	case "esc":
		m.view.Filter, m.view.Help, m.view.Offset = "", false, 0
	case "?", "h":
		m.view.Help = !m.view.Help
	case "up", "k":
		m.scroll(-1)
	case "down", "j":
		m.scroll(1)
	case "pgup":
		m.scroll(-page)
	case "pgdown", "space":
		m.scroll(page)
	case "home", "g":
		m.view.Offset = 0
	case "end", "G":
		m.scroll(1 << 30)
	}
	return nil
}

// scroll scrolls the workers. View limits the offset.
func (m *model) scroll(lines int) { m.view.Offset = max(m.view.Offset+lines, 0) }

// maxFilter is the maximum length of the filter, in bytes.
const maxFilter = 60

// edit handles a key while the user types a filter.
func (m *model) edit(k tea.KeyPressMsg) {
	switch k.String() {
	case "enter":
		m.view.Editing = false
		return
	case "esc":
		m.view.Editing, m.view.Filter = false, ""
		return
	case "backspace":
		_, size := utf8.DecodeLastRuneInString(m.view.Filter)
		m.view.Filter = m.view.Filter[:len(m.view.Filter)-size]
		return
	}
	for _, r := range k.Text {
		if unicode.IsPrint(r) && len(m.view.Filter)+utf8.RuneLen(r) <= maxFilter {
			m.view.Filter += string(r)
		}
	}
}
