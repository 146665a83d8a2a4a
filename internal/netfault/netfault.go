// Package cuttest has a network that breaks, for tests.
package netfault

import (
	"io"
	"net"
	"sync"
	"testing"
)

// A Proxy stands before a server, and cuts connections in the middle of an answer.
type Proxy struct {
	// Address is its own.
	Address string

	server string
	every  int64

	mu    sync.Mutex
	left  int // how many more are cut
	cuts  int
	conns map[net.Conn]bool // those under way; nil: it has ended
}

// Before starts a Proxy before the server at an address: it cuts the first most
// connections, each after so many bytes of answers. It is ended with the test.
func NewProxy(t testing.TB, address string, every int64, most int) *Proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &Proxy{Address: l.Addr().String(), server: address, every: every, left: most, conns: map[net.Conn]bool{}}
	var all sync.WaitGroup
	all.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			all.Go(func() { p.serve(conn) })
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		p.mu.Lock()
		for conn := range p.conns {
			_ = conn.Close()
		}
		p.conns = nil
		p.mu.Unlock()
		all.Wait()
	})
	return p
}

// Cuts is how many connections have been cut.
func (p *Proxy) Cuts() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.cuts
}

// Cut has so many more connections be cut.
func (p *Proxy) Cut(most int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.left = most
}

// begin enters a connection, unless the proxy has ended.
func (p *Proxy) begin(conn net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.conns == nil {
		return false
	}
	p.conns[conn] = true
	return true
}

func (p *Proxy) end(conn net.Conn) {
	p.mu.Lock()
	delete(p.conns, conn)
	p.mu.Unlock()
	_ = conn.Close()
}

func (p *Proxy) serve(client net.Conn) {
	if !p.begin(client) {
		_ = client.Close()
		return
	}
	defer p.end(client)
	server, err := net.Dial("tcp", p.server)
	if err != nil {
		return
	}
	if !p.begin(server) {
		_ = server.Close()
		return
	}
	defer p.end(server)
	var asking sync.WaitGroup
	asking.Go(func() {
		_, _ = io.Copy(server, client)
		_ = server.Close()
	})
	if n, err := io.CopyN(client, server, p.every); n == p.every && err == nil {
		if p.takeCut() {
			if tcp, ok := client.(*net.TCPConn); ok {
				_ = tcp.SetLinger(0) // a reset, and not an end
			}
		} else {
			_, _ = io.Copy(client, server)
		}
	}
	_ = client.Close()
	asking.Wait()
}

func (p *Proxy) takeCut() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.left == 0 {
		return false
	}
	p.left--
	p.cuts++
	return true
}
