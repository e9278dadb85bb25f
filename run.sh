echo 19 > /proc/self/autogroup
. /tmp/w/env.sh; wt b
$PY/python -m groundup run /tmp/w/b/sst/sst.yaml --json > /tmp/w/b/sst/ours.log 2>&1; $PY/python /tmp/w/b/sst/tf.py > /tmp/w/b/sst/tf.log 2>&1
