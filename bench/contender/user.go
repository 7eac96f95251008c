package contender

import (
	"fmt"
	"os/user"
	"strconv"
)

type userID struct{ uid, gid int }

func lookupUser(name string) (userID, error) {
	u, err := user.Lookup(name)
	if err != nil {
		return userID{}, fmt.Errorf("look up user %s: %w", name, err)
	}
	uid, err := strconv.Atoi(u.Uid)
	if err != nil {
		return userID{}, fmt.Errorf("uid of %s: %w", name, err)
	}
	gid, err := strconv.Atoi(u.Gid)
	if err != nil {
		return userID{}, fmt.Errorf("gid of %s: %w", name, err)
	}
	return userID{uid, gid}, nil
}
