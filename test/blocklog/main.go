//go:build linux

// Command blocklog serves one file, DIR/disk, by FUSE, and writes down what is done to it. With a loop device on that file it records
// every write and every flush that a file system sends to its disk.
//
//	blocklog DIR IMAGE LOG
//
// DIR is where the file appears; IMAGE holds its bytes; LOG is written. It says "ready" when DIR/disk can be used, and ends when DIR is
// unmounted, or unmounts it itself on SIGTERM and at the end of its standard input: when its caller is gone, it goes.
//
// LOG is a sequence of entries, in the order in which the disk was told, each on it before the file system is answered:
//
//	offset  8 bytes, big-endian: where the bytes were written; all ones for a flush
//	length  4 bytes, big-endian: how many; 0 for a flush
//	bytes
package main

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"os"
	"os/signal"
	"sync"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "blocklog:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) != 3 {
		return fmt.Errorf("usage: blocklog DIR IMAGE LOG")
	}
	image, err := os.OpenFile(args[1], os.O_RDWR, 0)
	if err != nil {
		return err
	}
	log, err := os.OpenFile(args[2], os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	server, err := fs.Mount(args[0], &root{disk: &disk{image: image, log: log}}, &fs.Options{
		MountOptions: fuse.MountOptions{MaxWrite: 1 << 20, FsName: "blocklog", Name: "blocklog", DirectMount: true},
	})
	if err != nil {
		return err
	}
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT)
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		signals <- syscall.SIGTERM
	}()
	go func() {
		<-signals
		if err := server.Unmount(); err != nil {
			fmt.Fprintln(os.Stderr, "blocklog:", err)
			os.Exit(1)
		}
	}()
	fmt.Println("ready")
	server.Wait()
	return nil
}

// root is the folder that holds the file.
type root struct {
	fs.Inode
	disk *disk
}

func (r *root) OnAdd(ctx context.Context) {
	r.AddChild("disk", r.NewPersistentInode(ctx, r.disk, fs.StableAttr{Mode: syscall.S_IFREG}), true)
}

// disk is the file.
type disk struct {
	fs.Inode
	image *os.File
	mu    sync.Mutex // one entry of the log at a time, in the order of the writes
	log   *os.File
}

var (
	_ fs.NodeOpener    = (*disk)(nil)
	_ fs.NodeGetattrer = (*disk)(nil)
	_ fs.NodeReader    = (*disk)(nil)
	_ fs.NodeWriter    = (*disk)(nil)
	_ fs.NodeFsyncer   = (*disk)(nil)
)

// Open implements fs.NodeOpener.
func (d *disk) Open(context.Context, uint32) (fs.FileHandle, uint32, syscall.Errno) {
	return nil, fuse.FOPEN_KEEP_CACHE, 0
}

// Getattr implements fs.NodeGetattrer.
func (d *disk) Getattr(_ context.Context, _ fs.FileHandle, out *fuse.AttrOut) syscall.Errno {
	info, err := d.image.Stat()
	if err != nil {
		return fs.ToErrno(err)
	}
	out.Mode, out.Size, out.Blocks = syscall.S_IFREG|0o600, uint64(info.Size()), uint64(info.Size()/512)
	return 0
}

// Read implements fs.NodeReader.
func (d *disk) Read(_ context.Context, _ fs.FileHandle, dest []byte, off int64) (fuse.ReadResult, syscall.Errno) {
	return fuse.ReadResultFd(d.image.Fd(), off, len(dest)), 0
}

// Write implements fs.NodeWriter.
func (d *disk) Write(_ context.Context, _ fs.FileHandle, data []byte, off int64) (uint32, syscall.Errno) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if _, err := d.image.WriteAt(data, off); err != nil {
		return 0, fs.ToErrno(err)
	}
	if err := d.note(uint64(off), data); err != nil {
		return 0, fs.ToErrno(err)
	}
	return uint32(len(data)), 0
}

// Fsync implements fs.NodeFsyncer.
func (d *disk) Fsync(context.Context, fs.FileHandle, uint32) syscall.Errno {
	d.mu.Lock()
	defer d.mu.Unlock()
	return fs.ToErrno(d.note(math.MaxUint64, nil))
}

func (d *disk) note(off uint64, data []byte) error {
	entry := binary.BigEndian.AppendUint64(make([]byte, 0, 12+len(data)), off)
	entry = binary.BigEndian.AppendUint32(entry, uint32(len(data)))
	_, err := d.log.Write(append(entry, data...))
	return err
}
