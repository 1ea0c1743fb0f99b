package hosts

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"
)

// TestStoppedPrimary stops the process that leads, as a host that is suspended or swaps does, until another node leads, with
// writes of its own clients on their way. When it goes on it must not acknowledge what its successor doesn't have.
func TestStoppedPrimary(t *testing.T) {
	m := newMesh(t, "ams")
	mad1, mad2 := m.join(t, "mad", "mad-1"), m.join(t, "mad", "mad-2")
	m.cli(t, "orgs", "create", "shop")
	password := m.create(t, "shop", "cart", "--region", "mad", "--no-replicas")
	leader, other := mad1, mad2
	for _, n := range []*Node{mad1, mad2} {
		m.dial(t, n, "shop", "cart", password).want(t, "OK", "SET", "k", "v")
		m.awaitUse(t, n, n)
	}
	for round := range 3 {
		const clients = 20
		got := make(chan string, clients)
		cs := make([]*Client, clients)
		for i := range cs {
			cs[i] = m.dial(t, leader, "shop", "cart", password)
			cs[i].want(t, "PONG", "PING")
		}
		process, err := os.FindProcess(leader.cmd.Process.Pid)
		if err != nil {
			t.Fatal(err)
		}
		if err := process.Signal(syscall.SIGSTOP); err != nil {
			t.Fatal(err)
		}
		eventually(t, 10*time.Second, func() error { return stopped(process.Pid) })
		for i, c := range cs {
			go func() {
				v, err := c.Do("SET", fmt.Sprintf("stopped:%d:%d", round, i), "x")
				if err != nil {
					v = err.Error()
				}
				got <- strconv.Itoa(i) + " " + v
			}()
		}
		at := m.dial(t, other, "shop", "cart", password)
		eventually(t, slower(10*time.Second), func() error {
			_, err := at.Do("SET", "round", strconv.Itoa(round))
			return err
		})
		if err := process.Signal(syscall.SIGCONT); err != nil {
			t.Fatal(err)
		}
		for range clients {
			reply := <-got
			var i int
			var v string
			fmt.Sscan(reply, &i, &v)
			if v != "OK" {
				continue
			}
			if have, err := at.Do("GET", fmt.Sprintf("stopped:%d:%d", round, i)); err != nil || have != "x" {
				t.Errorf("round %d: the write of client %d was acknowledged, and is lost: %q, %v", round, i, have, err)
			}
		}
		m.awaitUse(t, leader, leader)
		// In use is also what hasn't found its new primary yet; such a copy couldn't take over.
		eventually(t, slower(10*time.Second), func() error {
			if n, err := at.Do("WAIT", "1", "1000"); err != nil || n != "1" {
				return fmt.Errorf("%s replicas have all, %w", n, err)
			}
			return nil
		})
		leader, other = other, leader
	}
}

// stopped tells whether all threads of a process have stopped. Until then one that is at work may acknowledge a write that no other node
// gets to see, as it may whenever no replica is asked for.
func stopped(pid int) error {
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
	if err != nil || len(threads) == 0 {
		return fmt.Errorf("process %d has no threads, %w", pid, err)
	}
	for _, name := range threads {
		stat, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		if state := stat[bytes.LastIndexByte(stat, ')')+2]; state != 'T' {
			return fmt.Errorf("%s: %c", name, state)
		}
	}
	return nil
}
