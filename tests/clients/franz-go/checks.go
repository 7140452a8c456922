package main

import (
	"errors"
	"fmt"
	"os"
	"reflect"
	"strings"
	"time"
)

// patience is how long anything is waited for.
const patience = 30 * time.Second

var failed bool

// check runs one check and prints a line `pass NAME` or `FAIL NAME: WHY` for the harness to count.
func check(name string, attempt func() error) {
	if err := attempt(); err != nil {
		failed = true
		fmt.Printf("FAIL %s: %s\n", name, strings.ReplaceAll(err.Error(), "\n", " "))
		return
	}
	fmt.Println("pass", name)
}

// end says that every check had its turn.
func end() {
	fmt.Println("end")
	if failed {
		os.Exit(1)
	}
}

func same(what string, found, wanted any) error {
	if !reflect.DeepEqual(found, wanted) {
		return fmt.Errorf("%s: found %v, wanted %v", what, found, wanted)
	}
	return nil
}

// until asks until there is no error, and returns the last one when patience is over.
func until(what string, ask func() error) error {
	deadline := time.Now().Add(patience)
	for {
		err := ask()
		if err == nil {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("no %s within %s: %w", what, patience, err)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

var errNotYet = errors.New("not yet")
