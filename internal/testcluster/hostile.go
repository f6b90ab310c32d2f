package testcluster

import (
	"context"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// A Crawl is many connections of one client to one gateway on which as little happens
// as possible: bodies that it sends, or answers that it reads, a few bytes a second.
type Crawl struct {
	p    *Project
	g    *Node
	n    int
	path string // of what it reads; "" sends bodies
	open atomic.Int64
}

// SlowBodies sends n bodies to a function of the example notes.
func SlowBodies(p *Project, g *Node, n int) *Crawl { return &Crawl{p: p, g: g, n: n} }

// SlowReaders ask n times for a path, and read the answers.
func SlowReaders(p *Project, g *Node, path string, n int) *Crawl {
	return &Crawl{p: p, g: g, n: n, path: path}
}

// Open is how many of the connections are open.
func (s *Crawl) Open() int { return int(s.open.Load()) }

func (s *Crawl) run(ctx context.Context, l *Load) {
	var wg sync.WaitGroup
	defer wg.Wait()
	for range s.n {
		wg.Go(func() { s.one(ctx, l) })
	}
}

func (s *Crawl) one(ctx context.Context, l *Load) {
	conn, err := l.c.dialer(clientAddrs-1).DialContext(ctx, "tcp", s.g.users)
	if err != nil {
		return
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	s.open.Add(1)
	defer s.open.Add(-1)
	if s.path == "" {
		_, err = fmt.Fprintf(conn, "POST /notes HTTP/1.1\r\nHost: %s\r\nContent-Length: 100000\r\n\r\n", s.p.Host())
		ended := make(chan struct{})
		go func() { // an answer, or the end
			defer close(ended)
			_, _ = conn.Read(make([]byte, 1))
			_ = conn.Close()
		}()
		for err == nil {
			_, err = conn.Write([]byte("x"))
			pause(ctx, time.Second)
		}
		_ = conn.Close()
		<-ended
		return
	}
	if t, ok := conn.(*net.TCPConn); ok {
		_ = t.SetReadBuffer(4096)
	}
	_, err = fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: %s\r\n\r\n", s.path, s.p.Host())
	for err == nil {
		_, err = io.ReadFull(conn, make([]byte, 16))
		pause(ctx, time.Second)
	}
}
