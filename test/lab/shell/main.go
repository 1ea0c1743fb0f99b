// Command shell builds the lab, says how to walk in, and keeps it until it is interrupted. On standard input it takes
// commands for the paths between the regions.
package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"

	"respmesh/test/lab"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "lab:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	binary := flag.String("binary", "bin/respmesh", "the program")
	possible := flag.Bool("possible", false, "only say why there can't be a lab here")
	flag.Parse()
	if err := lab.Possible(ctx); err != nil || *possible {
		return err
	}
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	l, err := lab.New(ctx, lab.Options{Binary: *binary, Log: log})
	if err != nil {
		return err
	}
	err = stand(ctx, l)
	end, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
	defer cancel()
	fmt.Println("removing the lab")
	return errors.Join(err, l.Close(end))
}

func stand(ctx context.Context, l *lab.Lab) error {
	w, err := l.Furnish(ctx)
	if err != nil {
		return err
	}
	if err := w.Print(os.Stdout); err != nil {
		return err
	}
	fmt.Print(help)
	lines := make(chan string)
	go func() {
		in := bufio.NewScanner(os.Stdin)
		for in.Scan() {
			lines <- in.Text()
		}
	}()
	for {
		select {
		case <-ctx.Done():
			return nil
		case line := <-lines:
			if err := change(os.Stdout, l, strings.Fields(line)); err != nil {
				fmt.Println(err)
			}
		}
	}
}

const help = `
Change the paths between the regions by typing here:
  cut REGION           take a region off the network
  heal                 all as it was
  loss FROM TO PERCENT lose packets, one way
  delay FROM TO MS     delay packets, one way
  block FROM TO        lose all, one way
  kill NODE, start NODE

Ctrl-C ends the lab and removes it.
`

func change(w io.Writer, l *lab.Lab, args []string) error {
	if len(args) == 0 {
		return nil
	}
	verb, args := args[0], args[1:]
	want := map[string]int{"cut": 1, "heal": 0, "loss": 3, "delay": 3, "block": 2, "kill": 1, "start": 1}
	if n, ok := want[verb]; !ok || n != len(args) {
		_, err := io.WriteString(w, help)
		return err
	}
	switch verb {
	case "heal":
		return l.Default()
	case "kill", "start":
		for _, n := range l.Nodes {
			switch {
			case n.Name != args[0]:
			case verb == "kill" && n.Runs():
				n.Kill()
				return nil
			case verb == "start" && !n.Runs():
				return n.Start(context.Background())
			default:
				return fmt.Errorf("%s: it is so already", n.Name)
			}
		}
		return fmt.Errorf("no node %s", args[0])
	}
	for _, region := range args[:min(2, len(args))] {
		if !lab.HasRegion(region) {
			return fmt.Errorf("no region %s", region)
		}
	}
	if verb == "cut" {
		l.WAN.Cut(args[0])
		return nil
	}
	c := l.WAN.Conditions(args[0], args[1])
	if verb == "block" {
		c.Cut = true
		return l.WAN.Set(args[0], args[1], c)
	}
	v, err := strconv.ParseFloat(args[2], 64)
	if err != nil {
		return err
	}
	if verb == "loss" {
		c.Loss = v / 100
	} else {
		c.Delay = time.Duration(v * float64(time.Millisecond))
	}
	return l.WAN.Set(args[0], args[1], c)
}
