package aof_test

import (
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"respmesh/store/aof"
)

// BenchmarkWrite is a SET with its commit, by sessions side by side.
func BenchmarkWrite(b *testing.B) {
	for _, policy := range []aof.Policy{aof.No, aof.EverySec, aof.Always} {
		for _, sessions := range []int{1, 32} {
			b.Run(fmt.Sprintf("%v/%d", policy, sessions), func(b *testing.B) {
				d := mustOpen(b, aof.Options{Dir: b.TempDir(), Policy: policy, RewritePercent: -1})
				value := strings.Repeat("v", 64)
				b.ReportAllocs()
				b.SetParallelism((sessions + 1) / 2)
				b.RunParallel(func(p *testing.PB) {
					s := d.session()
					for p.Next() {
						if _, err := s.try("SET", "key", value); err != nil {
							b.Error(err)
						}
					}
				})
			})
		}
	}
}

// BenchmarkLoad loads a file of SETs.
func BenchmarkLoad(b *testing.B) {
	dir := b.TempDir()
	d := mustOpen(b, aof.Options{Dir: dir, Policy: aof.No, RewritePercent: -1})
	s := d.session()
	value := strings.Repeat("v", 64)
	for i := range 500_000 {
		if _, err := s.try("SET", fmt.Sprint("key:", i), value); err != nil {
			b.Fatal(err)
		}
	}
	if err := d.close(); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		d, err := openDB(aof.Options{Dir: dir, RewritePercent: -1})
		if err != nil {
			b.Fatal(err)
		}
		b.SetBytes(d.loaded.Bytes)
		d.close()
	}
}

// BenchmarkRewrite reports the longest that a write waited while the files were rewritten.
func BenchmarkRewrite(b *testing.B) {
	d := mustOpen(b, aof.Options{Dir: b.TempDir(), RewritePercent: -1})
	s := d.session()
	value := strings.Repeat("v", 200)
	for i := range 500_000 {
		if _, err := s.try("SET", fmt.Sprint("key:", i), value); err != nil {
			b.Fatal(err)
		}
	}
	for b.Loop() {
		var done atomic.Bool
		var rewritten = make(chan error)
		go func() {
			err := d.w.Rewrite()
			done.Store(true)
			rewritten <- err
		}()
		var longest, sum time.Duration
		n := 0
		for ; !done.Load(); n++ {
			start := time.Now()
			if _, err := s.try("SET", fmt.Sprint("key:", n%500_000), value); err != nil {
				b.Fatal(err)
			}
			took := time.Since(start)
			longest, sum = max(longest, took), sum+took
		}
		if err := <-rewritten; err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(float64(longest.Microseconds()), "longest-µs")
		b.ReportMetric(float64(sum.Microseconds())/float64(n), "mean-µs")
	}
}
