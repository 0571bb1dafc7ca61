select movements from accounts where account = ?
