package main

import (
	"bufio"
	"fmt"
	"os"
	"strings"
	"syscall"
)

// forgetStart lets the kernel have the pages of the program back that only its start needed: the initialisation of everything
// that the other commands use. They are the file's own pages, never written to, so those needed again are mapped again. It
// halves what a sidecar has resident.
func forgetStart() error {
	self, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return err
	}
	f, err := os.Open("/proc/self/maps")
	if err != nil {
		return err
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		line := lines.Text()
		fields := strings.Fields(line) // proc_pid_maps(5): range, permissions, offset, device, inode, path
		if len(fields) < 6 || !strings.HasSuffix(line, " "+self) || fields[1] != "r-xp" && fields[1] != "r--p" {
			continue
		}
		var from, to uintptr
		if _, err := fmt.Sscanf(fields[0], "%x-%x", &from, &to); err != nil {
			return err
		}
		// Not in pieces of 2 MiB, as Linux 6.18 maps a file that lies so in its cache: all would be back at once. A kernel
		// that doesn't do that doesn't know the advice either.
		_, _, _ = syscall.Syscall(syscall.SYS_MADVISE, from, to-from, syscall.MADV_NOHUGEPAGE)
		if _, _, errno := syscall.Syscall(syscall.SYS_MADVISE, from, to-from, syscall.MADV_DONTNEED); errno != 0 {
			return errno
		}
	}
	return nil
}
